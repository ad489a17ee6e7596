import functools
import hashlib
import http.server
import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import detkit
from det_detectron2 import zoo
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from det_detectron2.rcnn import model_tree
from detkit.cli.main import main
from detkit.config.sources import layers
from detkit.plugins import registry

TINY = "COCO-Detection/tiny_mask_rcnn"


def arrays(num_classes: int = 3) -> dict[str, np.ndarray]:
    """Detectron2's names of all arrays of a model with one map and one head, random values."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"backbone.bottom_up.stem.conv1.weight": (8, 3, 7, 7)}
    inputs = 8
    for stage, outputs in zip((2, 3, 4, 5), (8, 16, 32, 64), strict=True):
        for block in range(2):
            prefix = f"backbone.bottom_up.res{stage}.{block}"
            shapes[f"{prefix}.conv1.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{prefix}.conv2.weight"] = (outputs, outputs, 3, 3)
            if inputs != outputs:
                shapes[f"{prefix}.shortcut.weight"] = (outputs, inputs, 1, 1)
            inputs = outputs
        shapes[f"backbone.fpn_lateral{stage}.weight"] = (8, outputs, 1, 1)
        shapes[f"backbone.fpn_output{stage}.weight"] = (8, 8, 3, 3)
    norms = {
        name.replace("weight", f"norm.{leaf}"): shape[:1]
        for name, shape in shapes.items()
        if "bottom" in name
        for leaf in ("weight", "bias", "running_mean", "running_var")
    }
    layers = {
        "proposal_generator.rpn_head.conv": (8, 8, 3, 3),
        "proposal_generator.rpn_head.objectness_logits": (3, 8, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas": (12, 8, 1, 1),
        "roi_heads.box_head.fc1": (16, 8 * 49),
        "roi_heads.box_predictor.cls_score": (num_classes + 1, 16),
        "roi_heads.box_predictor.bbox_pred": (4 * num_classes, 16),
    }
    shapes.update({f"{name}.weight": shape for name, shape in layers.items()})
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items() if "bottom" not in name}
    return {
        name: rng.uniform(0.1, 0.2, shape).astype(np.float32) for name, shape in {**shapes, **norms, **biases}.items()
    }


def recipe() -> dict:
    """A recipe for that model."""
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    tree["MODEL"]["MASK_ON"] = False
    tree["MODEL"]["RESNETS"].update(RES2_OUT_CHANNELS=8, STEM_OUT_CHANNELS=8)
    tree["MODEL"]["FPN"]["OUT_CHANNELS"] = 8
    tree["MODEL"]["ROI_BOX_HEAD"].update(NUM_FC=1, FC_DIM=16)
    model = model_tree(Detectron2Config(tree))
    taken_out(model, "num_classes")
    return {
        "version": 1,
        "base": "faster-rcnn-r50-fpn-1x",
        "about": {"model id": "42", "dataset": "mine"},
        "model": model,
    }


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, with ranges; `cut` bytes of the first answer, if it is set."""

    cut: int | None = None

    def do_GET(self) -> None:
        body = Path(self.translate_path(self.path))
        if not body.is_file():
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        data = body.read_bytes()[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: Handler.cut])
        Handler.cut = None
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of one model, with a recipe for it: the file of its checkpoint."""
    recipe_file = tmp_path / "tiny.yaml"
    recipe_file.write_text(yaml.safe_dump(recipe()))
    monkeypatch.setattr(zoo, "ZOO", {**zoo.ZOO, TINY: "42/abc123"})
    monkeypatch.setattr(zoo, "_recipes", lambda: {"42": str(recipe_file)})
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / f"site/{TINY}/42/model_final_abc123.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps({"model": arrays(), "__author__": "Detectron2 Model Zoo"}))
    handler = functools.partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(zoo.URL_VARIABLE, f"http://127.0.0.1:{server.server_port}/")
        yield file
        server.shutdown()


@pytest.mark.parametrize("name", [TINY, f"{TINY}.yaml", "42", "configs/" + TINY])
def test_a_model_is_downloaded_built_from_its_recipe_and_converted(site: Path, tmp_path: Path, name: str) -> None:
    assert main(["convert", "detectron2", name, "--out", str(tmp_path / "out")]) == 0
    model = detkit.load(tmp_path / "out")
    wanted = torch.from_numpy(arrays()["roi_heads.box_predictor.bbox_pred.weight"])
    assert torch.equal(model.state_dict()["heads.box.predictor.deltas.weight"], wanted)
    assert len(model.categories) == 3


def test_the_directory_says_where_the_weights_are_from(site: Path, tmp_path: Path) -> None:
    zoo.convert("42", tmp_path / "out")
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert meta["weights"] == {"url": zoo.url(TINY), "sha256": hashlib.sha256(site.read_bytes()).hexdigest()}
    assert meta["source"] == f"Detectron2 model zoo, {TINY}"
    assert meta["licence"] == {"code": "Apache-2.0", "data": "CC-BY-4.0", "weights": "CC-BY-SA-3.0"}


def test_a_download_that_breaks_off_is_taken_up_again(site: Path, tmp_path: Path) -> None:
    Handler.cut = 1000
    with pytest.raises(ValueError, match="what has arrived is kept"):
        zoo.convert("42", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    zoo.convert("42", tmp_path / "out")


def test_a_checksum_can_be_pinned(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", "detectron2", "42", "--out", str(tmp_path / "out"), "--sha256"]
    assert main([*arguments, "0" * 64]) != 0
    assert "is wanted: the download is damaged or the file has been replaced" in capsys.readouterr().err
    assert main([*arguments, hashlib.sha256(site.read_bytes()).hexdigest()]) == 0


def test_a_file_that_changes_after_the_first_download_is_not_used(site: Path, tmp_path: Path) -> None:
    zoo.convert("42", tmp_path / "out")
    (kept,) = tmp_path.glob("cache/*/*.pkl")
    kept.write_bytes(pickle.dumps({"model": arrays(4)}))
    with pytest.raises(ValueError, match="when it was downloaded: delete it"):
        zoo.convert("42", tmp_path / "again")


def test_offline_says_what_to_do(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(zoo.URL_VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*refused.*or put the file there by hand: .*\.pkl"):
        zoo.convert("42", tmp_path / "out")


def test_a_checkpoint_of_another_model_lists_what_differs(site: Path, tmp_path: Path) -> None:
    state = arrays()
    state["roi_heads.box_head.fc1.weight"] = np.zeros((3, 3), np.float32)
    state["roi_heads.keypoint_head.fancy"] = np.zeros(1, np.float32)
    site.write_bytes(pickle.dumps({"model": state}))
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        zoo.convert("42", tmp_path / "out")
    assert "roi_heads.keypoint_head.fancy has no counterpart" in str(caught.value)
    assert "(3, 3) instead of (16, 392)" in str(caught.value)


def test_an_unknown_model_names_near_ones(site: Path) -> None:
    with pytest.raises(ValueError, match=r"nor in Detectron2's zoo; did you mean COCO-Detection/faster_rcnn_R_50_FPN"):
        zoo.find("COCO-Detection/faster_rcnn_R_50_FPN_2x")


def test_a_model_without_a_recipe_says_how_to_convert_it(site: Path) -> None:
    with pytest.raises(ValueError, match=r"no installed recipe builds .*Download http://.*model_0039999_e76410.pkl"):
        zoo.find("18131413")


def test_every_recipe_with_a_model_id_is_of_the_model_that_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_recipes", functools.cache(zoo._recipes))  # reads all recipes
    found = 0
    for component in registry().components("recipe"):
        about = layers(component.name)[-1].tree.get("about", {})
        if about.get("published by", "").startswith("Detectron2"):
            config, name = zoo.find(about["model id"])
            assert name == component.name
            project, _, rest = config.partition("/")
            published = (f"Detectron2 model zoo, {config}", f"Detectron2 project {project}, {rest}")
            assert about["published by"] in published
            assert zoo.find(component.name) == zoo.find(config) == (config, name)
            found += 1
    assert found >= 4


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ", "mask_rcnn_R_50_FPN_100ep_LSJ/42047764/model_final_bb69de"),
        ("ViTDet/COCO/mask_rcnn_vitdet_h_75ep", "mask_rcnn_vitdet_h/f329145471/model_final_7224f1"),
        ("MViTv2/cascade_mask_rcnn_mvitv2_s_3x", "cascade_mask_rcnn_mvitv2_s_3x/f308344647/model_final_279baf"),
        (
            "MViTv2/cascade_mask_rcnn_mvitv2_b_in21k_3x",
            "cascade_mask_rcnn_mvitv2_b_in12k_3x/f309003202/model_final_be5168",
        ),
        ("ViTDet/LVIS/mask_rcnn_vitdet_h_100ep", "mask_rcnn_vitdet_h/332434656/model_final_866730"),
        (
            "PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco",
            "pointrend_rcnn_R_50_FPN_1x_coco/164254221/model_final_736f5a",
        ),
    ],
)
def test_checkpoints_are_where_detectron2_publishes_them(config: str, path: str) -> None:
    folder = config.rpartition("/")[0]
    assert zoo.url(config) == f"https://dl.fbaipublicfiles.com/detectron2/{folder}/{path}.pkl"


def test_ids_are_unique() -> None:
    ids = [file.split("/")[0] for file in zoo.ZOO.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("dataset", "count", "last"), [("voc", 20, "tvmonitor"), ("cityscapes", 8, "bicycle")])
def test_classes_have_the_names_of_the_dataset(dataset: str, count: int, last: str) -> None:
    categories = zoo._classes(dataset, {})["categories"]
    assert (len(categories), categories.names[-1]) == (count, last)


def test_pixels_of_cityscapes_have_the_names_of_its_classes() -> None:
    pixels = zoo._classes("cityscapes", {})["semantic_categories"]
    assert (len(pixels), pixels.names[0], pixels.names[6]) == (19, "road", "traffic light")
