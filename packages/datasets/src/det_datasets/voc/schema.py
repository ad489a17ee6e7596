"""One image's annotation in VOC's XML."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, XMLParser

_DECLARATIONS = re.compile(rb"<!(DOCTYPE|ENTITY)|\x00")


@dataclass(slots=True)
class VocObject:
    """One object.

    name: of its class.
    box: xmin, ymin, xmax, ymax as in the file: the first and the last pixel, counted from 1.
    difficult, truncated, occluded: flags; False where the file says nothing.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    occluded: bool


@dataclass(slots=True)
class VocAnnotation:
    """An image's size (height, width), None where the file does not say it, and its objects, parts left out."""

    size: tuple[int, int] | None
    objects: list[VocObject]


def read_annotation(path: Path) -> VocAnnotation:
    """Read a file.

    Raises:
        ValueError: it is missing, no XML, declares entities (with which a few lines can be made to fill the memory), or
            lacks what an object needs; the message names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the annotation {path}: {error.strerror or error}") from None
    # Encodings other than UTF-16, which has zeros, write this as ASCII does.
    if _DECLARATIONS.search(data) or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path} declares a document type or entities, or is UTF-16; VOC's files are plain XML")
    try:
        parser = XMLParser()
        parser.feed(data)
        return _annotation(parser.close())
    except (ParseError, LookupError) as error:
        raise ValueError(f"{path} is not XML: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _annotation(root: Element) -> VocAnnotation:
    if root.tag != "annotation":
        raise ValueError(f"it is an XML file of <{root.tag}>; VOC's are of <annotation>")
    size: tuple[int, int] | None = None
    objects: list[VocObject] = []
    for element in root:
        if element.tag == "object":
            objects.append(_object(element, len(objects) + 1))
        elif element.tag == "size":
            height, width = (_number(element, name, "size") for name in ("height", "width"))
            size = (int(height), int(width)) if height >= 1 and width >= 1 else None
    return VocAnnotation(size, objects)


def _object(element: Element, number: int) -> VocObject:
    place = f"object {number}"
    name = (element.findtext("name") or "").strip()
    box = element.find("bndbox")  # of parts there are others, further inside
    if not name or box is None:
        raise ValueError(f"{place} has no {'bndbox' if name else 'name'}")
    left, top, right, bottom = (_number(box, side, f"{place} ({name})") for side in ("xmin", "ymin", "xmax", "ymax"))
    flags = [(element.findtext(flag) or "").strip() == "1" for flag in ("difficult", "truncated", "occluded")]
    return VocObject(name, (left, top, right, bottom), *flags)


def _number(element: Element, name: str, place: str) -> float:
    text = element.findtext(name)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place} has {name} {text!r}; a finite number is needed")
    return value
