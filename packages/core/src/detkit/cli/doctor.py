"""`detkit doctor`: report versions, devices, plugins and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.doctor import Finding

_HELP = """Report versions, devices, plugins, decoders and space, and what is wrong with its remedy.

The exit status is 1 if something is wrong. Send the report along when you report a defect.
"""


def main(argv: list[str]) -> int:
    """`detkit doctor [--json]`; 1 if something is wrong."""
    import click

    as_json = click.Option(["--json", "as_json"], is_flag=True, help="Print the findings as JSON.")
    return run(click.Command("doctor", callback=_doctor, params=[as_json], help=_HELP), "doctor", argv)


def _doctor(as_json: bool) -> None:
    from detkit.doctor import examine

    findings = examine()
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        print(_report(findings))
    raise SystemExit(int(any(finding.level == "problem" for finding in findings)))


def _report(findings: list[Finding]) -> str:
    width = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines += ["", section]
        mark = {"ok": " ", "note": "-", "problem": "!"}[finding.level]
        lines.append(f"{mark} {finding.name:{width}}  {finding.value}")
    problems = [finding for finding in findings if finding.level == "problem"]
    lines += ["", f"{len(problems)} things are wrong:" if problems else "Nothing is wrong."]
    lines += [f"! {finding.name}: {finding.value}\n    {finding.remedy}" for finding in problems]
    return "\n".join(lines).lstrip()
