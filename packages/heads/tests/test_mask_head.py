import torch

from det_heads.mask_head import MaskHead
from det_heads.pooler import foreground_rows
from detkit.interfaces import RoiSamples
from detkit.ops.compact import valid_rows
from detkit.structures.shape import Shape
from detkit.testing.inputs import image_sizes, random_boxes, random_features

SHAPES = {"p3": Shape(8, 8)}


def test_one_mask_for_all_classes() -> None:
    head = MaskHead(input_shapes=SHAPES, in_features=["p3"], num_classes=3, channels=8, layers=1, class_agnostic=True)
    assert len(head.predictor.logits.weight) == 1
    assert not head.predictor.rows_per_class
    boxes = random_boxes(1, 1).expand(-1, 3, -1)
    samples = RoiSamples(boxes=boxes, valid=torch.ones(1, 3, dtype=torch.bool), labels=torch.tensor([[0, 1, 2]]))
    with torch.no_grad():
        grids = head.detect(random_features(SHAPES, 1), samples, image_sizes(1)).outputs["mask_grid"]
    torch.testing.assert_close(grids[0, 1:], grids[0, :1].expand(2, -1, -1))


def samples() -> RoiSamples:
    return RoiSamples(
        boxes=torch.zeros(2, 4, 4),
        valid=torch.tensor([[True, True, True, True], [True, False, True, True]]),
        labels=torch.tensor([[1, 3, 0, 3], [2, 2, 3, 3]]),
        target_index=torch.zeros(2, 4, dtype=torch.int64),
        foreground=3,
    )


def test_on_a_cpu_only_foreground_is_computed() -> None:
    foreground, rows = foreground_rows(samples(), 3)
    assert rows.tolist() == [0, 2, 4]
    assert foreground.tolist() == [True] * 3


def test_elsewhere_foreground_repeats_so_that_batch_norms_see_nothing_else(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert len(valid_rows(torch.tensor([True, False]))) == 2
    foreground, rows = foreground_rows(samples(), 3)
    assert rows.tolist() == [0, 2, 4, 0, 2, 4]
    assert foreground.tolist() == [True] * 3 + [False] * 3
