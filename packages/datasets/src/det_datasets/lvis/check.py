"""Looking through an LVIS file for everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from det_datasets.coco.check import CocoCheck
from det_datasets.coco.repair import whole
from det_datasets.lvis.schema import distinct_names, place_of
from det_datasets.lvis.synsets import COCO_IDS, LISTS, coco_ids
from detkit.data.check import SplitReport
from detkit.structures.coco import COCO


class LvisCheck(CocoCheck):
    """What is wrong with an LVIS file and its images: what can be wrong with COCO's, and what images say of categories.
    With `categories="coco"` only these categories, which keep LVIS's ids, and their annotations are looked at."""

    def _adapt(self, report: SplitReport) -> None:
        for entry in _objects(self._top["images"]):
            address = entry.get("coco_url", "")
            if not isinstance(address, str):
                text = f"image {entry.get('id')} has the coco_url {address!r}; a text is needed"
                report.findings.add("image-entry", text, image=entry.get("id"))
                del entry["coco_url"]
            if place := place_of(_text(address), _text(entry.get("file_name"))):
                entry["file_name"] = place
        categories = _objects(self._top["categories"])
        named = [(_text(entry.get("name")), _synonyms(entry), _text(entry.get("synset"))) for entry in categories]
        for entry, name in zip(categories, distinct_names(named), strict=True):
            if name:
                entry["name"] = name
        self._others: set[int | None] = set()  # ids of categories that are not read
        if self._arguments.get("categories") == "coco":
            self._leave_out_others(categories)

    def _leave_out_others(self, categories: list[dict[str, Any]]) -> None:
        coco_ids((0, _text(entry.get("synset"))) for entry in categories)  # ValueError if there are none of COCO's
        kept = []
        for entry in categories:
            synset = _text(entry.get("synset"))
            if synset in COCO_IDS:
                kept.append({**entry, "name": COCO.names[COCO.label_of_id(COCO_IDS[synset])]})
            else:
                self._others.add(whole(entry.get("id")))
        self._others.discard(None)
        self._top["categories"] = kept

    def _is_read(self, entry: Mapping[str, Any]) -> bool:
        return whole(entry.get("category_id")) not in self._others

    def _look_at_categories(self, report: SplitReport) -> None:
        super()._look_at_categories(report)
        for entry in _objects(self._top["images"]):
            note = partial(report.findings.add, "image-entry", image=entry.get("id"))
            for key in LISTS:
                if key in entry:
                    entry[key] = self._known(entry[key], f"image {entry.get('id')}: {key}", note)

    def _known(self, ids: Any, called: str, note: Callable[[str], None]) -> list[int]:
        """The ids of categories in a list of an image."""
        if not isinstance(ids, list):
            note(f"{called} is {ids!r}; a list of ids of categories is needed"[:200])
            return []
        found = [self._merged.get(id, id) for id in ids if type(id) is int]
        known = [id for id in found if id in self._categories or id in self._others]
        if len(known) < len(ids):
            strangers = [id for id in ids if type(id) is not int or self._merged.get(id, id) not in known]
            note(f"{called} has {strangers}, which are no categories"[:200])
        return known


def _objects(entries: list[Any]) -> list[dict[str, Any]]:
    """Those entries of a list that are objects."""
    return [entry for entry in entries if isinstance(entry, dict)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _synonyms(entry: Mapping[str, Any]) -> list[str]:
    found = entry.get("synonyms")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
