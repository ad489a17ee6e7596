"""The categories of COCO 2017, for models that were trained on it but do not name their classes."""

from __future__ import annotations

from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints

_BY_GROUP = {
    "person": "1 person",
    "vehicle": "2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat",
    "outdoor": "10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench",
    "animal": "16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe",
    "accessory": "27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase",
    "sports": "34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove, "
    "41 skateboard, 42 surfboard, 43 tennis racket",
    "kitchen": "44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl",
    "food": "52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, "
    "61 cake",
    "furniture": "62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet",
    "electronic": "72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone",
    "appliance": "78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator",
    "indoor": "84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier, 90 toothbrush",
}
_ENTRIES = [(*entry.split(" ", 1), group) for group, entries in _BY_GROUP.items() for entry in entries.split(", ")]

COCO = Categories(
    names=tuple(name for _, name, _ in _ENTRIES),
    ids=tuple(int(id) for id, _, _ in _ENTRIES),
    supercategories=tuple(group for _, _, group in _ENTRIES),
)

_STUFF = (
    "0 things, 92 banner, 93 blanket, 95 bridge, 100 cardboard, 107 counter, 109 curtain, 112 door-stuff, "
    "118 floor-wood, 119 flower, 122 fruit, 125 gravel, 128 house, 130 light, 133 mirror-stuff, 138 net, 141 pillow, "
    "144 platform, 145 playingfield, 147 railroad, 148 river, 149 road, 151 roof, 154 sand, 155 sea, 156 shelf, "
    "159 snow, 161 stairs, 166 tent, 168 towel, 171 wall-brick, 175 wall-stone, 176 wall-tile, 177 wall-wood, "
    "178 water-other, 180 window-blind, 181 window-other, 184 tree-merged, 185 fence-merged, 186 ceiling-merged, "
    "187 sky-other-merged, 188 cabinet-merged, 189 table-merged, 190 floor-other-merged, 191 pavement-merged, "
    "192 mountain-merged, 193 grass-merged, 194 dirt-merged, 195 paper-merged, 196 food-other-merged, "
    "197 building-other-merged, 198 rock-merged, 199 wall-other-merged, 200 rug-merged"
)
_PIXELS = [entry.split(" ", 1) for entry in _STUFF.split(", ")]

COCO_PIXELS = Categories(names=tuple(name for _, name in _PIXELS), ids=tuple(int(id) for id, _ in _PIXELS))
"""The classes of pixels of COCO 2017's panoptic task: label 0 for all things together, then the 53 of stuff."""

_PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")

PERSON_KEYPOINTS = Keypoints(
    names=("nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right"))),
    swaps=tuple((2 * index + 1, 2 * index + 2) for index in range(len(_PARTS))),
    skeleton=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
        *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
    sigmas=(0.026, *(sigma for sigma in (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089) for _ in range(2))),
)
"""The keypoints of COCO's persons, with how far COCO's annotators disagree on each."""

COCO_PERSON = Categories(names=("person",), ids=(1,), supercategories=("person",), keypoints=PERSON_KEYPOINTS)
"""The one category of COCO's keypoint task."""
