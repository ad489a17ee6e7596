"""`python -m benchmarks [NAME ...] [--rounds N] [--json FILE]`"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import coco_evaluation, detectors, fusion, loading, loop, matching, opening, photometric

BENCHMARKS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    **{name: partial(detectors.main, name=name) for name in detectors.SUBJECTS},
    "fusion": fusion.main,
    "matching": matching.main,
    "loading": loading.main,
    "photometric": photometric.main,
    "coco_evaluation": coco_evaluation.main,
    "opening": opening.main,
    "loop": loop.main,
}


def main() -> None:
    """Run the benchmarks that are named, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory against a peer.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, default=7, help="calls of each side, one after the other")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    figures = {name: BENCHMARKS[name](options.rounds) for name in options.names or BENCHMARKS}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
