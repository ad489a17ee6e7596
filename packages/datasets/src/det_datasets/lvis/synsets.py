"""Which of LVIS's categories are COCO's: those of the same WordNet synset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from detkit.structures.coco import COCO

LISTS = ("neg_category_ids", "not_exhaustive_category_ids")
"""What an image says of categories."""

_SYNSETS = (
    "person.n.01 bicycle.n.01 car.n.01 motorcycle.n.01 airplane.n.01 bus.n.01 train.n.01 truck.n.01 boat.n.01 "
    "traffic_light.n.01 fireplug.n.01 stop_sign.n.01 parking_meter.n.01 bench.n.01 bird.n.01 cat.n.01 dog.n.01 "
    "horse.n.01 sheep.n.01 beef.n.01 elephant.n.01 bear.n.01 zebra.n.01 giraffe.n.01 backpack.n.01 umbrella.n.01 "
    "bag.n.04 necktie.n.01 bag.n.06 frisbee.n.01 ski.n.01 snowboard.n.01 ball.n.06 kite.n.03 baseball_bat.n.01 "
    "baseball_glove.n.01 skateboard.n.01 surfboard.n.01 tennis_racket.n.01 bottle.n.01 wineglass.n.01 cup.n.01 "
    "fork.n.01 knife.n.01 spoon.n.01 bowl.n.03 banana.n.02 apple.n.01 sandwich.n.01 orange.n.01 broccoli.n.01 "
    "carrot.n.01 frank.n.02 pizza.n.01 doughnut.n.02 cake.n.03 chair.n.01 sofa.n.01 pot.n.04 bed.n.01 "
    "dining_table.n.01 toilet.n.02 television_receiver.n.01 laptop.n.01 mouse.n.04 remote_control.n.01 "
    "computer_keyboard.n.01 cellular_telephone.n.01 microwave.n.02 oven.n.01 toaster.n.02 sink.n.01 "
    "electric_refrigerator.n.01 book.n.01 clock.n.01 vase.n.01 scissors.n.01 teddy.n.01 hand_blower.n.01 "
    "toothbrush.n.01"
)
COCO_IDS: Mapping[str, int] = dict(zip(_SYNSETS.split(), COCO.ids, strict=True))
"""Synset -> COCO's id, as the authors of LVIS (https://github.com/lvis-dataset/lvis-api) have it."""


def coco_ids(synsets: Iterable[tuple[int, str]]) -> dict[int, int]:
    """LVIS's id -> COCO's, of categories (id, synset) that are COCO's.

    Raises:
        ValueError: none is.
    """
    found = {id: COCO_IDS[synset] for id, synset in synsets if synset in COCO_IDS}
    if not found:
        raise ValueError("none of its categories has a synset that is one of COCO's; is this a file of LVIS?")
    return found


def in_coco(head: dict[str, Any]) -> dict[int, int]:
    """Put COCO's 80 categories in the place of LVIS's in what a file holds besides annotations. The categories keep
    what LVIS says of them, such as `frequency`.

    Returns:
        LVIS's id -> COCO's.
    """
    ids = coco_ids((entry["id"], entry.get("synset", "")) for entry in head["categories"])
    known = {ids[entry["id"]]: entry for entry in head["categories"] if entry["id"] in ids}
    head["categories"] = [
        {**known.get(id, {}), "id": id, "name": name} for id, name in zip(COCO.ids, COCO.names, strict=True)
    ]
    for image in head["images"]:
        for key in LISTS:
            if key in image:
                image[key] = [ids[id] for id in image[key] if id in ids]
    return ids
