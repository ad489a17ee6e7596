"""Looking through a COCO file for everything that is wrong with it, and writing a corrected one."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from det_datasets.coco.repair import Note, repair, whole
from det_datasets.coco.schema import read_bytes
from det_datasets.coco.write import write_coco
from det_datasets.pixels import PixelLabels
from detkit.data.check import ClassCount, Seen, SourceCheck, SplitReport, look_at, ordered
from detkit.data.stores.store import ImageStore, local_file, open_store
from detkit.interfaces import Dataset

_PATHS = ("proposals", "panoptic", "panoptic_annotations")
_OTHERS = ("min_keypoints", *_PATHS)
"""Arguments that `CocoWriter` writes nothing of."""


@dataclass
class _Image:
    """An image that can be used."""

    position: int
    entry: dict[str, Any]
    size: tuple[int, int]


class CocoCheck(SourceCheck):
    """What is wrong with a COCO file and its images. Images are decoded in threads, annotations are looked at one by
    one: besides the text of the file, memory does not grow with it.

    Args:
        reader: the class that opens the file, with `arguments`.
        arguments: of the reader: `images`, `annotations` and `semantic` are looked at here.
    """

    def __init__(self, reader: Callable[..., Dataset], arguments: Mapping[str, Any]) -> None:
        self._reader = reader
        self._arguments = dict(arguments)
        self._top: dict[str, Any] = {}
        self._annotations: list[Any] = []
        self._images: dict[int, _Image] = {}  # by id
        self._unusable: set[int] = set()  # ids of images that are listed
        self._same: dict[int, int] = {}  # id of an entry -> that of an earlier one of the same file
        self._categories: dict[int, dict[str, Any]] = {}
        self._merged: dict[int, int] = {}
        self._last_id = 0

    def run(self, report: SplitReport, progress: Callable[[int, int], None]) -> None:
        try:
            store, labels = self._open()
            self._read()
            self._adapt(report)
        except (ValueError, TypeError) as error:
            report.findings.add("annotations", str(error))
            return
        self._look_at_categories(report)
        self._look_at_images(report, store, labels, progress)
        ids = (whole(_id(raw)) for raw in self._annotations)
        self._last_id = max((id for id in ids if id is not None), default=0)
        with_objects = set()
        masks = [0, 0]
        counts = {id: ClassCount(entry["name"], id) for id, entry in self._categories.items()}
        seen: set[tuple[int, int]] = set()
        for entry, has_mask in self._repaired(report.findings.add):
            image, category = entry["image_id"], entry["category_id"]
            with_objects.add(image)
            masks[has_mask] += 1
            counts[category].objects += not entry["iscrowd"]
            counts[category].crowds += entry["iscrowd"]
            if (image, category) not in seen:
                seen.add((image, category))
                counts[category].images += 1
        if masks[0] and masks[1]:
            report.findings.add("mask-missing", f"{masks[0]} of {sum(masks)} objects", count=masks[0])
        report.images = len(self._images)
        report.negatives = len(self._images) - len(with_objects)
        report.classes = sorted(counts.values(), key=lambda each: each.id)
        report.note_sizes(image.size for image in self._images.values())
        report.note_unused()
        report.note_same()

    def corrected(self, scratch: Path, leave_out: Collection[int]) -> Dataset:
        images = [image for image in self._images.values() if image.position not in leave_out]
        if not self._categories or not images:
            raise ValueError("there is nothing left to correct: it has no usable images, or no categories")
        kept = {image.entry["id"] for image in images}
        path = scratch / "annotations.json"
        others = {key: value for key, value in self._top.items() if key not in ("images", "categories", "annotations")}
        head = {
            **others,
            "images": [image.entry for image in images],
            "categories": list(self._categories.values()),
        }
        repaired = self._repaired(lambda code, text, **where: None)
        write_coco(path, head, (entry for entry, _ in repaired if entry["image_id"] in kept))
        return self._reader(**{**self._arguments, "annotations": path, **self._everything()})

    def others(self) -> Mapping[str, Any]:
        given = ((key, self._arguments.get(key)) for key in _OTHERS)
        return {key: str(Path(value).resolve()) if key in _PATHS else value for key, value in given if value}

    def _everything(self) -> dict[str, Any]:
        """Arguments with which the reader leaves no image out."""
        return {"min_keypoints": 0} if "min_keypoints" in self._arguments else {}

    def _open(self) -> tuple[ImageStore, PixelLabels | None]:
        missing = [key for key in ("images", "annotations") if self._arguments.get(key) is None]
        if missing:
            raise ValueError(f"the reader needs {' and '.join(missing)}")
        semantic = self._arguments.get("semantic")
        if semantic is not None and self._arguments.get("panoptic_annotations") is not None:
            semantic = None  # its classes come from elsewhere; opening it looks at that
        return open_store(self._arguments["images"]), None if semantic is None else PixelLabels(Path(semantic))

    def _read(self) -> None:
        """Read the file, whatever is in its lists."""
        path = local_file(self._arguments["annotations"])
        data = read_bytes(path)
        try:
            found: Any = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            lists = {key: msgspec.json.decode(value) for key, value in found.items() if key != "annotations"}
            rows = found.get("annotations", msgspec.Raw(b"[]"))
            lists["annotations"] = msgspec.json.decode(rows, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError):
            lists = _read_loosely(path, data)
        for key in ("images", "categories", "annotations"):
            if not isinstance(lists.get(key, [] if key == "annotations" else None), list):
                named = ", ".join(map(repr, lists)) or "nothing"
                raise ValueError(
                    f"{path} is not a COCO instances file: {key} is no list; it has {named}, and 'images', "
                    "'annotations' and 'categories' are needed"
                )
        for key in ("images", "categories"):
            if not lists[key]:
                raise ValueError(f"{path} lists no {key}; at least one is needed")
        self._top, self._annotations = lists, lists.pop("annotations", [])

    def _adapt(self, report: SplitReport) -> None:
        """For formats that are close to COCO's: bring `_top`, which may be changed, to what it would be there."""

    def _is_read(self, entry: Mapping[str, Any]) -> bool:
        """Whether the reader, with these arguments, takes notice of an annotation."""
        return True

    def _look_at_categories(self, report: SplitReport) -> None:
        by_name: dict[str, int] = {}
        for number, entry in enumerate(self._top["categories"]):
            id, name = (whole(entry.get("id")), entry.get("name")) if isinstance(entry, dict) else (None, None)
            if id is None or not isinstance(name, str):
                report.findings.add("category-entry", f"category number {number} is {entry!r}"[:200])
            elif id in self._categories:
                report.findings.add("category-id", f"{id} is {self._categories[id]['name']!r} and {name!r}")
            elif name in by_name:
                report.findings.add("category-name", f"{name!r} has the ids {by_name[name]} and {id}")
                self._merged[id] = by_name[name]
            else:
                by_name[name] = id
                self._categories[id] = {**entry, "id": id}

    def _look_at_images(
        self,
        report: SplitReport,
        store: ImageStore,
        labels: PixelLabels | None,
        progress: Callable[[int, int], None],
    ) -> None:
        entries = self._top["images"]
        last = max((id for entry in entries if (id := whole(_value(entry).get("id"))) is not None), default=0)
        files: dict[str, int] = {}

        def look(entry: Any) -> Seen | tuple[str, str]:
            name = _value(entry).get("file_name")
            return _seen(store, labels, name, _size(entry)) if isinstance(name, str) else ("image-entry", "no file")

        for position, seen in enumerate(ordered(look, entries)):
            progress(position + 1, len(entries))
            entry = _value(entries[position])
            id, name = whole(entry.get("id")), entry.get("file_name")
            called = f"image {entry.get('id')} ({name})"

            note = partial(report.findings.add, image=entry.get("id"))
            if id is None or type(entry.get("id")) is not int:
                note("image-entry", f"{called} has the id {entry.get('id')!r}; a whole number is needed")
            taken = id in self._images or id in self._unusable or id in self._same
            if isinstance(name, str) and name in files:
                if id == files[name]:
                    note("image-id", f"{id} is given to {name} twice")
                else:
                    note("image-twice", f"{name} is image {files[name]} and {id}")
                    if id is not None and not taken:
                        self._same[id] = files[name]
                continue
            if taken and id is not None:
                other = self._images[id].entry["file_name"] if id in self._images else "another image"
                note("image-id", f"{id} is given to {other} and to {name}")
            if id is None or taken:
                last += 1
                id = last
            if isinstance(name, str):
                files[name] = id
            size = self._sized(entry, called, seen, note)
            if size is None:
                self._unusable.add(id)
                continue
            assert isinstance(seen, Seen)
            report.digests[position] = (str(name), seen.digest)
            fixed = {**entry, "id": id, "height": size[0], "width": size[1]}
            self._images[id] = _Image(position, fixed, size)

    def _sized(
        self, entry: Mapping[str, Any], called: str, seen: Seen | tuple[str, str], note: Note
    ) -> tuple[int, int] | None:
        """The size of an image that can be used."""
        if isinstance(seen, tuple):
            code, text = seen
            note(code, text if called in text or code != "image-entry" else f"{called} names {text}")
            return None
        stated = _size(entry)
        if stated is None:
            height, width = seen.size
            note("image-entry", f"{called} does not say its height and width, which are {height} and {width}")
            return seen.size
        if stated in (seen.size, seen.stored):
            if stated != seen.size:
                note("image-turned", f"{called} is {seen.size[1]} x {seen.size[0]} when it is turned")
            return stated
        note(
            "image-size",
            f"{called} is {seen.size[1]} x {seen.size[0]} pixels, annotated as {stated[1]} x {stated[0]}",
        )
        return seen.size

    def _repaired(self, note: Callable[..., None]) -> Iterator[tuple[dict[str, Any], bool]]:
        """All annotations that can be used, corrected, and which have a mask. The same each time."""
        used: set[int] = set()
        last = self._last_id
        said = (self._arguments.get("keypoints") or {}).get("names")
        keypoints = {id: len(said or entry.get("keypoints") or ()) for id, entry in self._categories.items()}
        for number, raw in enumerate(self._annotations):
            entry = _value(raw)
            if not self._is_read(entry):
                continue
            own = whole(entry.get("id"))
            called = f"annotation {entry.get('id', f'number {number}')} of image {entry.get('image_id')}"
            where = {"image": entry.get("image_id"), "annotation": own}

            def tell(code: str, text: str, called: str = called, where: dict[str, Any] = where) -> None:
                note(code, f"{called}: {text}", **where)

            image_id, category = whole(entry.get("image_id")), whole(entry.get("category_id"))
            if image_id is None or category is None:
                ids = f"image_id {entry.get('image_id')!r} and category_id {entry.get('category_id')!r}"
                tell("annotation-entry", f"{ids}; whole numbers are needed")
                continue
            if any(type(entry[key]) is not int for key in ("image_id", "category_id")):
                tell("annotation-entry", "its image_id or category_id is no whole number")
            image_id = self._same.get(image_id, image_id)
            image = self._images.get(image_id)
            if image is None:
                if image_id not in self._unusable:
                    tell("image-unknown", f"no image {image_id} is listed")
                continue
            category = self._merged.get(category, category)
            if category not in self._categories:
                tell("category-unknown", f"category_id {category}")
                continue
            id = own
            if "id" not in entry:
                tell("annotation-number", "no id")
            elif own is None or type(entry["id"]) is not int:
                tell("annotation-entry", f"id {entry['id']!r} is no whole number")
            elif own in used:
                tell("annotation-id", f"{own} is given to another one, too")
            if id is None or id in used:
                last += 1
                id = last
            used.add(id)
            strict = isinstance(raw, msgspec.Raw)
            fixed, has_mask = repair(entry, image.size, keypoints[category], tell, finite=strict)
            if fixed is not None:
                yield {**fixed, "id": id, "image_id": image.entry["id"], "category_id": category}, has_mask


class _Id(msgspec.Struct):
    id: Any = None


_ID = msgspec.json.Decoder(_Id)


def _id(raw: Any) -> Any:
    """The id of an entry of a list, whatever it is."""
    try:
        return _ID.decode(raw).id if isinstance(raw, msgspec.Raw) else _value(raw).get("id")
    except msgspec.ValidationError:  # it is no object
        return None


def _value(raw: Any) -> dict[str, Any]:
    """An entry of a list; nothing if it is no object."""
    found = msgspec.json.decode(raw) if isinstance(raw, msgspec.Raw) else raw
    return found if isinstance(found, dict) else {}


def _size(entry: Any) -> tuple[int, int] | None:
    """(height, width) as an entry of an image has it."""
    sides = [_value(entry).get(key) for key in ("height", "width")]
    if not all(type(side) is int and side > 0 for side in sides):
        return None
    height, width = sides
    return height, width  # type: ignore[return-value]


def _seen(
    store: ImageStore, labels: PixelLabels | None, name: str, size: tuple[int, int] | None
) -> Seen | tuple[str, str]:
    """An image, or the code of its problem and what is wrong."""
    try:
        data = store.read(name)
    except ValueError as error:
        return "image-missing", str(error)
    try:
        seen = look_at(data, store.place(name))
    except ValueError as error:
        return "image-unreadable", str(error)
    if labels is not None:
        try:
            labels.read(name, size if size in (seen.size, seen.stored) and size is not None else seen.size)
        except ValueError as error:
            return "pixels", str(error)
    return seen


def _read_loosely(path: Path, data: bytes) -> dict[str, Any]:
    """What Python makes of a file that is not quite JSON: NaN and infinity, which its own module writes."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error if data.strip() else 'it is empty'}") from None
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} is not a COCO instances file: it holds {type(found).__name__}, and an object with 'images', "
            "'annotations' and 'categories' is needed (is this a file of results?)"
        )
    return found
