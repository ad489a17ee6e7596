import os
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest
import torch

from detkit.foreign import read_foreign_checkpoint, rename
from detkit.foreign_resnet import caffe2_name, folded
from detkit.layers import FrozenBatchNorm


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_arrays_come_back(tmp_path, protocol: int) -> None:
    arrays = OrderedDict(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.float32(2.5), c=np.array([1, 2]))
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, protocol=protocol))
    state = read_foreign_checkpoint(path)
    assert {name: value.tolist() for name, value in state.items()} == {k: v.tolist() for k, v in arrays.items()}


def test_torch_files_are_read_with_weights_only(tmp_path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "iteration": 3}, tmp_path / "model.pth")
    assert read_foreign_checkpoint(tmp_path / "model.pth")["a"].tolist() == [1, 1]


class Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, suffix: str) -> None:
    data = {"model": {"a": Hostile(str(tmp_path / "owned"))}}
    path = tmp_path / f"model{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(data))
    else:
        torch.save(data, path)
    with pytest.raises(ValueError, match="not a checkpoint that can be read safely"):
        read_foreign_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def test_a_truncated_file_is_a_clear_error(tmp_path) -> None:
    whole = pickletools.optimize(pickle.dumps({"model": {"a": np.zeros(1000)}}))
    (tmp_path / "model.pkl").write_bytes(whole[:500])
    with pytest.raises(ValueError, match=r"model\.pkl is not a checkpoint"):
        read_foreign_checkpoint(tmp_path / "model.pkl")


def test_a_missing_file_is_a_clear_error(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"model\.pkl cannot be read: No such file"):
        read_foreign_checkpoint(tmp_path / "model.pkl")


def test_something_else_than_arrays_is_a_clear_error(tmp_path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": {"a": "text"}}))
    with pytest.raises(ValueError, match="a is a str; an array is needed"):
        read_foreign_checkpoint(tmp_path / "model.pkl")


def test_detectrons_blobs_are_found_where_it_keeps_them(tmp_path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"cfg": "TEST: {}", "blobs": {"a": np.ones(2)}}, protocol=2))
    assert list(read_foreign_checkpoint(tmp_path / "model.pkl")) == ["a"]


def test_arrays_are_renamed_by_the_first_rule_that_matches() -> None:
    rules = (
        (r"layer(\d)\.(.+)", r"res{\1+1}.\2"),
        (r"layer.+", r"never"),
        (r"fc(\d+)\.(.+)", r"trunk.{\1-1}.{\1/2}.\2"),
    )
    state = {name: torch.zeros(1) for name in ("layer1.w", "fc7.b", "mean", "what")}
    renamed, strangers = rename(state, rules, derived=("mean",))
    assert list(renamed) == ["res2.w", "trunk.6.3.b"]
    assert strangers == ["what"]


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_norms_of_another_epsilon_keep_their_scale_and_shift(eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"norm.{leaf}": torch.rand(4, generator=generator) for leaf in ("weight", "bias", "running_mean", "running_var")
    }
    state["norm.running_var"][0] = 1e-6 + eps
    norm = FrozenBatchNorm(4)
    norm.load_state_dict({name.removeprefix("norm."): value for name, value in folded(state, eps).items()})
    scale, shift = norm.affine()
    wanted = state["norm.weight"] / (state["norm.running_var"] + eps).sqrt()
    torch.testing.assert_close(scale, wanted)
    torch.testing.assert_close(shift, state["norm.bias"] - state["norm.running_mean"] * wanted)


def test_caffe2s_blobs_of_a_resnet_have_names() -> None:
    assert caffe2_name("res4_22_branch2c_w") == "res4.22.conv3.weight"
    assert caffe2_name("res2_0_branch1_bn_b") == "res2.0.shortcut.norm.bias"
    assert caffe2_name("res_conv1_bn_riv") == "stem.conv1.norm.running_var"
    assert caffe2_name("fpn_res2_2_sum_w") is None
