from __future__ import annotations

import json
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
import torch

from detkit import doctor
from detkit.cli.main import main
from detkit.devices import pick_device
from detkit.doctor import Finding, examine
from detkit.plugins import Component, Registry, hookimpl, use_registry
from detkit.plugins.discovery import installed


def find(section: str, name: str) -> Finding:
    [found] = [finding for finding in examine() if (finding.section, finding.name) == (section, name)]
    return found


class Plugin:
    def __init__(self, name: str) -> None:
        self._name = name

    @hookimpl
    def detkit_components(self) -> list[Component]:
        return [Component(kind="backbone", name=self._name, target="nowhere:Nothing")]

    @hookimpl
    def detkit_environment(self) -> dict[str, str]:
        return {"driver": "1.2"}


def test_this_installation_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in said
    assert "det-core" in said
    assert said.rstrip().endswith("Nothing is wrong.")


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    assert {finding["section"] for finding in findings} >= {
        "system",
        "versions",
        "devices",
        "plugins",
        "decoders",
        "space",
    }
    assert findings[0].keys() == {"section", "name", "value", "level", "remedy"}


def test_a_broken_plugin_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "acme_swin-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-swin\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[detkit]\nacme-swin = not_there.detkit_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with use_registry(Registry(installed())):
        assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "! acme-swin" in said
    assert "2.0, broken: ModuleNotFoundError: No module named 'not_there'" in said
    assert "detkit plugins check acme-swin" in said


def test_a_disabled_plugin_is_no_problem(use_toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_DISABLE_PLUGINS", "use-toy")
    with use_registry(Registry(installed())):
        found = find("plugins", "use-toy")
    assert (found.level, found.value) == ("ok", "0.1, disabled, 0 components")


def test_two_plugins_with_one_name_are_a_problem() -> None:
    registry = Registry()
    registry.register(Plugin("acme/net"), "acme")
    registry.register(Plugin("acme/net"), "acme-too")
    with use_registry(registry):
        found = find("plugins", "backbone acme/net")
    assert found.level == "problem"
    assert found.value == "provided by acme and acme-too"


def test_plugins_report_their_environment() -> None:
    registry = Registry()
    registry.register(Plugin("acme/net"), "acme")
    with use_registry(registry):
        assert find("plugins", "acme: driver").value == "1.2"


def test_a_torchvision_for_another_torch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.requires
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch==1.0.0"] if name == "torchvision" else real(name))
    found = find("versions", "torchvision")
    assert found.level == "problem"
    assert f"needs torch==1.0.0, not {metadata.version('torch')}" in found.value
    assert "pip install" in found.remedy


def test_requirements_of_other_systems_and_extras_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ["nothing-at-all; sys_platform == 'os9'", "nothing-at-all; extra == 'more'"]
    monkeypatch.setattr(metadata, "requires", lambda name: absent)
    assert find("versions", "torchvision").level == "ok"


def test_extras_are_present_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "tensorboard":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = find("extras", "det-core[tensorboard]")
    assert (found.level, found.value) == ("note", "absent (tensorboard)")
    assert found.remedy == "pip install 'det-core[tensorboard]'"


def test_little_space_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**20))
    assert find("space", "this folder").level == "problem"


def test_an_examination_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Finding]:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setitem(doctor._SECTIONS, "devices", fail)
    assert "libcudart" in find("devices", "devices").value
    assert find("system", "python").level == "ok"


def test_devices_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_explained() -> None:
    with pytest.raises(ValueError, match="there is no cuda device here"):
        pick_device("cuda")
