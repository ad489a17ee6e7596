"""Looking through an Objects365 file for everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from det_datasets.coco.check import CocoCheck
from det_datasets.coco.repair import whole
from det_datasets.objects365.layout import parts_of_names
from det_datasets.objects365.schema import MISSING, NOT_THERE, is_left_out, last_parts
from detkit.data.check import SplitReport


class Objects365Check(CocoCheck):
    """What is wrong with an Objects365 file and its images: what can be wrong with COCO's. Images that are in no
    archive, and objects that the reader leaves out, are not looked at."""

    def _adapt(self, report: SplitReport) -> None:
        parts = parts_of_names(self._arguments["images"])
        self._missing: set[int | None] = set()  # ids of images
        there: list[Any] = []
        for entry in self._top["images"]:
            name = entry.get("file_name") if isinstance(entry, dict) else None
            if isinstance(name, str) and name.endswith(MISSING):
                self._missing.add(whole(entry.get("id")))
                continue
            if isinstance(name, str):
                entry["file_name"] = last_parts(name, parts)
            there.append(entry)
        if missing := len(self._top["images"]) - len(there):
            report.findings.add("reader", f"{missing} {NOT_THERE}", count=missing)
        self._missing.discard(None)
        self._top["images"] = there

    def _is_read(self, entry: Mapping[str, Any]) -> bool:
        if is_left_out(self._arguments.get("without") or (), entry):
            return False
        return whole(entry.get("image_id")) not in self._missing
