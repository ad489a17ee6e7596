"""The 150 classes of ADE20K's scene parsing, in the order of their ids, from 1. Those of things, of which objects are
told apart, are marked with a star."""

from __future__ import annotations

from detkit.structures.categories import Categories

_NAMES = (
    "wall, building, sky, floor, tree, ceiling, road, bed*, window*, grass, cabinet*, sidewalk, person*, earth, "
    "door*, table*, mountain, plant, curtain*, chair*, car*, water, painting*, sofa*, shelf*, house, sea, mirror*, "
    "rug, field, armchair*, seat*, fence*, desk*, rock, wardrobe*, lamp*, tub*, rail*, cushion*, base, box*, "
    "column*, signboard*, chest of drawers*, counter*, sand, sink*, skyscraper, fireplace*, refrigerator*, "
    "grandstand, path, stairs*, runway, case*, pool table*, pillow*, screen door*, stairway, river, bridge, "
    "bookcase*, blind, coffee table*, toilet*, flower*, book*, hill, bench*, countertop*, stove*, palm*, kitchen "
    "island*, computer*, swivel chair*, boat*, bar, arcade machine*, hovel, bus*, towel*, light*, truck*, tower, "
    "chandelier*, awning*, street lamp*, booth*, tv*, plane*, dirt track, clothes*, pole*, land, bannister*, "
    "escalator, ottoman*, bottle*, buffet, poster, stage, van*, ship*, fountain*, conveyer belt, canopy, washer*, "
    "plaything*, pool, stool*, barrel*, basket*, falls, tent, bag*, minibike*, cradle, oven*, ball*, food*, step*, "
    "tank, trade name*, microwave*, pot*, animal*, bicycle*, lake, dishwasher*, screen*, blanket, sculpture*, "
    "hood*, sconce*, vase*, traffic light*, tray*, trash can*, fan*, pier, crt screen, plate*, monitor*, bulletin "
    "board*, shower, radiator*, glass*, clock*, flag*"
)

ADE20K = Categories(tuple(name.rstrip("*") for name in _NAMES.split(", ")))
"""The classes of pixels."""

THINGS = frozenset(name.rstrip("*") for name in _NAMES.split(", ") if name.endswith("*"))
"""The names of those of things, 100 of them."""
