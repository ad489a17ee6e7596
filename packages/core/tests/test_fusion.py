from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detkit.cli.main import main
from detkit.config import build
from detkit.detector import Detector
from detkit.evaluation import evaluate
from detkit.fusion import optimize
from detkit.layers import Conv, Norm
from detkit.model_directory import save_model
from detkit.program import export_program
from detkit.structures.categories import Categories
from detkit.testing.modules import unlike_new_norms

X = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1))
IMAGE = torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def folded(module: nn.Module) -> nn.Module:
    """The module, optimised; its answer is the same."""
    unlike_new_norms(module.eval())
    with torch.no_grad():
        expected = module(X)
        optimize(module)
        torch.testing.assert_close(module(X), expected, rtol=1e-5, atol=1e-5)
    return module


def norms(module: nn.Module) -> list[str]:
    return [type(each).__name__ for each in module.modules() if "Norm" in type(each).__name__]


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "sync_bn"])
@pytest.mark.parametrize("groups", [1, 3])
def test_constant_norms_fold_into_convolutions(norm: Norm, groups: int) -> None:
    conv = folded(Conv(3, 6, 3, stride=2, groups=groups, norm=norm, relu=True))
    assert norms(conv) == []
    assert set(conv.state_dict()) == {"weight", "bias"}
    assert not any(each.requires_grad for each in conv.parameters())


@pytest.mark.parametrize("norm", ["gn", "ln"])
def test_norms_that_depend_on_the_image_stay(norm: Norm) -> None:
    assert len(norms(folded(Conv(3, 6, 3, norm=norm)))) == 1


def test_batch_norm_without_statistics_of_its_own_stays() -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False))
    assert norms(folded(module)) == ["BatchNorm2d"]


@pytest.mark.parametrize("bias", [False, True])
def test_norms_fold_where_they_follow_in_a_sequence(bias: bool) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=bias), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4, affine=False)
    )
    assert norms(folded(module)) == []


def test_norms_that_do_more_than_normalise_stay() -> None:
    class WithReLU(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    module = folded(nn.Sequential(nn.Conv2d(3, 6, 1), WithReLU(6)))
    assert isinstance(module[1], WithReLU)


def test_a_convolution_that_is_used_twice_keeps_its_norms() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv = nn.Conv2d(3, 3, 1)
            self.fine = nn.Sequential(conv, nn.BatchNorm2d(3))
            self.coarse = nn.Sequential(conv, nn.BatchNorm2d(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.fine(x) + self.coarse(x)

    assert len(norms(folded(Shared()))) == 2


def test_norms_fold_where_a_traced_module_calls_them_and_nothing_else_sees_the_convolution() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.conv1, self.conv2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm1(self.conv1(x)).relu()
            before = self.conv2(x)
            return self.norm3(self.norm2(before) + before)

    assert norms(folded(torch.fx.symbolic_trace(Named()))) == ["BatchNorm2d", "BatchNorm2d"]
    assert len(norms(folded(Named()))) == 3  # the order in which they run is not known


def test_modules_that_occur_twice_in_a_sequence_do_not_hide_what_is_between() -> None:
    relu = nn.ReLU()
    module = nn.Sequential(relu, nn.Conv2d(3, 3, 1), relu, nn.BatchNorm2d(3))
    assert len(norms(folded(module))) == 1


def test_a_sequence_with_a_forward_of_its_own_is_left_alone() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            for part in reversed(list(self)):
                x = part(x)
            return x

    assert len(norms(folded(Backwards(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))))) == 1


def test_weights_lie_in_memory_pixel_by_pixel() -> None:
    module = folded(nn.Sequential(Conv(3, 6, 3, norm="bn"), nn.Conv2d(6, 4, 3)))
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in module.parameters() if each.ndim == 4)


def test_what_is_optimised_compiles() -> None:
    module = folded(Conv(3, 6, 3, norm="bn"))
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, backend="eager", fullgraph=True)(X), module(X))


@pytest.fixture
def model(toy: None) -> Detector:
    torch.manual_seed(0)
    spec = {"name": "toy/toy", "batch_norm": True}
    model = build(spec, Detector, categories=Categories(("red", "green"))).eval()
    unlike_new_norms(model)
    return model


def answer(model: Detector) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.detect(IMAGE[None], torch.tensor([[24, 32]]))


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_detector_is_optimised_in_place(model: Detector) -> None:
    expected = answer(model)
    assert model.optimize() is model
    assert norms(model) == []
    assert_equal(answer(model), expected)


def test_an_optimised_detector_exports(model: Detector) -> None:
    expected = answer(model)
    program = export_program(model.optimize(), 24, 32)
    assert_equal(program.module()(IMAGE[None], torch.tensor([[24, 32]])), expected)


def test_an_optimised_detector_is_neither_trained_nor_saved(model: Detector, tmp_path: Path) -> None:
    model.optimize()
    with pytest.raises(ValueError, match=r"optimised for inference, and cannot be trained; load it anew"):
        model.train()
    with pytest.raises(ValueError, match=r"optimised for inference: its weights are not those of its config"):
        save_model(model, tmp_path / "model", config={"name": "toy/toy"})
    assert not (tmp_path / "model").exists()


def test_a_copy_for_inference_leaves_the_model_as_it_was(model: Detector) -> None:
    model.train()
    model.body[0].weight.requires_grad_(False)
    state = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    wanted = [each.requires_grad for each in model.parameters()]
    copy = model.inference_copy()
    assert norms(copy) == [] and copy.optimized and not copy.training
    assert norms(model) == ["BatchNorm2d"] and not model.optimized and model.training
    assert [each.requires_grad for each in model.parameters()] == wanted
    now = model.state_dict(keep_vars=True)
    assert all(now[name].data_ptr() == place and torch.equal(now[name], old) for name, (place, old) in state.items())
    assert copy.body[0].weight.data_ptr() != model.body[0].weight.data_ptr()
    assert copy.pixel_mean.data_ptr() == model.pixel_mean.data_ptr()
    assert copy.head.bias.data_ptr() == model.head.bias.data_ptr()
    assert copy.inference_copy() is copy


def test_many_images_are_predicted_with_a_copy_and_equal_answers(model: Detector) -> None:
    images = [IMAGE, IMAGE.flip(2)]
    found, expected = model.predict(images), model.predict(images, optimize=False)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-5)
    assert not model.optimized and norms(model) == ["BatchNorm2d"]


def test_predictions_follow_the_weights(model: Detector) -> None:
    before = model.predict([IMAGE])[0].scores
    with torch.no_grad():
        model.body[0].weight.neg_()
    after = model.predict([IMAGE])[0].scores
    assert not torch.equal(before, after)
    assert torch.equal(after, model.predict([IMAGE])[0].scores)


@pytest.mark.parametrize("losses", [False, True])
def test_evaluating_changes_nothing_in_a_model_that_is_trained(model: Detector, losses: bool) -> None:
    from toy_engine.dataset import ToyDataset
    from toy_engine.evaluator import ToyEvaluator

    model.categories = ToyDataset(images=2).categories
    state = {name: value.clone() for name, value in model.train().state_dict().items()}
    fused, plain = (
        evaluate(model, ToyDataset(images=2), [ToyEvaluator()], workers=0, losses=losses, optimize=optimize)
        for optimize in (True, False)
    )
    assert fused.keys() == plain.keys()
    assert fused["bbox"]["AP"] == pytest.approx(plain["bbox"]["AP"], rel=1e-4)
    if losses:
        assert fused["validation"]["loss"] == pytest.approx(plain["validation"]["loss"], rel=1e-4)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("words", "copies"), [([], 1), (["--no-optimize"], 0)])
@pytest.mark.parametrize("command", ["predict", "eval"])
def test_commands_optimise_unless_told_not_to(
    model: Detector,
    toy_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    words: list[str],
    copies: int,
) -> None:
    made: list[Detector] = []
    monkeypatch.setattr(Detector, "inference_copy", lambda self: made.append(self) or self)
    model.categories = Categories(("red", "green"), (3, 7))
    save_model(model, tmp_path / "model", config={"name": "toy/toy", "batch_norm": True})
    Image.fromarray(IMAGE.permute(1, 2, 0).numpy()).save(tmp_path / "image.png")
    given = {
        "predict": [str(tmp_path / "image.png"), "--save", "csv"],
        "eval": [f"data={toy_data}", "evaluators=toy/toy", "--workers", "0"],
    }[command]
    assert main([command, str(tmp_path / "model"), *given, "--out", str(tmp_path / "out"), *words]) == 0
    assert len(made) == copies
