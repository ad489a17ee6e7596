"""What parts that several of Detectron2's python configs' targets share mean in keys of its YAML configs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from det_detectron2.lazy import Call, Keys


def anchors(call: Call, features: Sequence[str] | None) -> Keys:
    """An anchor generator on these maps."""
    sizes, ratios = call.take("sizes"), call.take("aspect_ratios")
    strides = [stride(name) for name in features or ()]
    given = call.take("strides")
    if any(each is not None for each in strides) and list(given) != strides:
        call.refuse("strides", given, repr(strides))
    return {
        "MODEL.ANCHOR_GENERATOR.NAME": call.name,
        "MODEL.ANCHOR_GENERATOR.SIZES": sizes if isinstance(sizes[0], list) else [sizes],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ratios if isinstance(ratios[0], list) else [ratios],
        "MODEL.ANCHOR_GENERATOR.OFFSET": call.take("offset", 0.5),
    }


def stride(feature: str) -> int | None:
    """Of a map that is named after it: p2, res2 and so on are of stride 4."""
    name = re.fullmatch(r"(?:p|res)(\d)", feature)
    return 2 ** int(name[1]) if name else None


def box_weights(call: Call) -> Any:
    """The weights of the parametrisation of boxes that a call has."""
    transform = call.child("box2box_transform", "Box2BoxTransform")
    clamp = transform.take("scale_clamp", None)
    if clamp is not None and not math.isclose(clamp, math.log(1000 / 16)):
        transform.refuse("scale_clamp", clamp, "log(1000 / 16)")
    return transform.take("weights")


def layer_norm_eps(call: Call, argument: str) -> float:
    """What the layer norms add to variances, of an argument that is their class, or a partial call of it written
    out."""
    layer = str(call.take(argument, "torch.nn.LayerNorm"))
    name = r"(?:<class ')?torch\.nn(?:\.modules\.normalization)?\.LayerNorm(?:'>)?"
    found = re.fullmatch(rf"{name}|functools\.partial\({name}(?:,\s*eps=(?P<eps>[-+.\de]+))?\)", layer)
    if found is None:
        call.refuse(argument, layer, "torch.nn.LayerNorm with some eps")
    return float(found["eps"]) if found and found["eps"] else 1e-5


def loss_weights(call: Call, first: str, second: str) -> tuple[float, float]:
    """That of the first of two losses, and that of the second in units of it."""
    weight = call.take("loss_weight", 1.0)
    if not isinstance(weight, Mapping):
        return weight, 1.0
    one, other = weight.get(first, 1.0), weight.get(second, 1.0)
    if not one:
        call.refuse("loss_weight", weight, f"a {first} above 0")
        return 1.0, 1.0
    return one, other / one
