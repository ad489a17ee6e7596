"""The main job from beginning to end, with the commands that one would type: make a dataset, train, evaluate, predict.

    python -m tools.quickstart [--out FOLDER] [KEY=VALUE ...]

It stops at the first command that fails. KEY=VALUE overrides the recipe, as in `train.steps=100`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

RECIPE = "mask-rcnn-quickstart"

CLOSING = """
Everything is in {out}:

  {out}/shapes               the dataset: JPEG files and COCO annotations, in train/ and val/
  {out}/run                  the run: config.yaml, metrics.jsonl, TensorBoard curves, checkpoints
  {out}/run/best             the best model: config.yaml, model.safetensors, meta.json
  {out}/evaluation           metrics.json, and the detections in COCO's format
  {out}/predictions          {count} pictures with boxes and masks drawn, and the same as JSON and CSV

On held-out pictures: box AP {box:.3f}, mask AP {mask:.3f}; {minutes:.1f} minutes in all.

Next, on your own data, a folder with images and COCO-style annotations ({activate}):

  detkit data check path/to/data
  detkit train mask-rcnn-r50-fpn-1x data=path/to/data --out runs/first \\
      train.epochs=30 train.batch_size=4
  detkit predict runs/first path/to/images --out results

docs/guide.md goes on from here.
"""


def run(*command: str) -> None:
    """Show a command, run it, and stop the quickstart if it fails."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    status = subprocess.run(command).returncode
    if status != 0:
        sys.exit(status)


def main(arguments: list[str] | None = None) -> None:
    """Run the quickstart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="where everything goes; replaced if there")
    parser.add_argument("--images", type=int, default=1000, help="training pictures to make")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the recipe")
    options = parser.parse_args(arguments)
    out: Path = options.out
    started = time.perf_counter()
    for part in ("shapes", "run", "evaluation", "predictions"):
        shutil.rmtree(out / part, ignore_errors=True)

    count = ("--images", str(options.images), "--val-images", str(max(1, options.images // 10)))
    run("detkit", "data", "make", "shapes", "--out", f"{out}/shapes", *count, "--seed", "0")
    changes = ["train.trackers=[tensorboard]", *options.overrides]
    run("detkit", "train", RECIPE, f"data={out}/shapes", "--out", f"{out}/run", *changes)
    run("detkit", "eval", f"{out}/run", f"data={out}/shapes", "--out", f"{out}/evaluation")
    held_out = f"{out}/shapes/val/images/00000*.jpg"  # a few
    run("detkit", "predict", f"{out}/run", held_out, "--out", f"{out}/predictions", "--save", "images,json,csv")

    metrics = json.loads((out / "evaluation/metrics.json").read_text(encoding="utf-8"))
    bin_folder = Path(sys.executable).parent
    print(
        CLOSING.format(
            out=out,
            count=len(list(out.glob("predictions/*.png"))),
            box=metrics["bbox"]["AP"],
            mask=metrics["segm"]["AP"],
            minutes=(time.perf_counter() - started) / 60,
            activate=f"`source {bin_folder}/activate` brings `detkit` into a shell",
        )
    )


if __name__ == "__main__":
    main()
