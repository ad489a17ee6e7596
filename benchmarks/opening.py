"""Opening annotations as large as COCO's, from the file and from the cache, and what loader workers add: against
pycocotools."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.measure import status

IMAGES, ANNOTATIONS, CATEGORIES = 118_000, 860_000, 80
HEIGHT, WIDTH = 480, 640
OUTLINES = 4000
"""Different ones, of 4 to 200 points, 25 on average; they are used again and again."""
WORKERS = 4


def main(rounds: int = 3) -> dict[str, Any]:
    """Make a file, open it `rounds` times on each side, each time in a process of its own, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "annotations.json")
        write_file(file)
        os.environ["DETKIT_CACHE"] = folder
        found: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": [], "pycocotools": []}
        for _ in range(min(rounds, 3)):
            for kept in Path(folder).glob("annotations/*"):
                kept.unlink()
            for side in found:
                found[side].append(_alone(_open_with_peer if side == "pycocotools" else _open, file))
        workers = {start: _workers(file, start) for start in ("fork", "spawn")}
        size = file.stat().st_size
    seconds = {side: statistics.median(first for first, _ in figures) for side, figures in found.items()}
    memory = {side: statistics.median(second for _, second in figures) for side, figures in found.items()}
    print(f"\nOpening {IMAGES:,} images, {ANNOTATIONS:,} annotations, {size / 1e6:.0f} MB of JSON")
    for side, limit in (("cold", " (limits 8 s, 2000 MB)"), ("warm", " (limit 1 s)"), ("pycocotools", "")):
        print(f"  {side:12} {seconds[side]:6.2f} s, {memory[side]:5.0f} MB at the peak{limit}")
    for start, added in workers.items():
        print(f"  a worker ({start}) adds {added:.0f} MB (limit 60 MB)")
    return {"seconds": seconds, "peak megabytes": memory, "megabytes per worker": workers}


def _alone(call: Callable[[Path], float], file: Path) -> tuple[float, float]:
    """The seconds that a call says and its peak of resident memory in MB, all libraries included (Linux only)."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(call, file, sender))
    process.start()
    figures: tuple[float, float] = receiver.recv()
    process.join()
    return figures


def _report(call: Callable[[Path], float], file: Path, sender: Any) -> None:
    sender.send((call(file), status("VmHWM") / 1024))


def _open(file: Path) -> float:
    from det_datasets.coco.dataset import CocoDataset

    start = time.perf_counter()
    assert len(CocoDataset(file.parent, file)) == IMAGES
    return time.perf_counter() - start


def _open_with_peer(file: Path) -> float:
    from pycocotools.coco import COCO

    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(file)).imgs) == IMAGES
    return time.perf_counter() - start


def _workers(file: Path, start: str) -> float:
    """MB that each of some workers, all alive, shares with no other after it has got and read all annotations."""
    from det_datasets.coco.dataset import CocoDataset

    dataset = CocoDataset(file.parent, file)
    context: Any = multiprocessing.get_context(start)
    barrier, results = context.Barrier(WORKERS), context.Queue()
    content = dataset if start == "fork" else pickle.dumps(dataset)
    processes = [context.Process(target=_read, args=(content, barrier, results)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    added: list[float] = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return max(added)


def _read(content: Any, barrier: Any, results: Any) -> None:
    import torch

    from det_datasets.coco.dataset import CocoDataset

    torch.set_num_threads(1)  # as a loader's worker does: a fork's threads would wait for those of its parent
    before = _own_memory()
    dataset: CocoDataset = pickle.loads(content) if isinstance(content, bytes) else content
    for tensor in dataset._columns.tensors().values():
        tensor.view(-1)[::64].sum()  # every page of it
    for index in range(0, len(dataset), 100):
        dataset.target(index)
    barrier.wait()
    results.put(_own_memory() - before)
    barrier.wait()


def _own_memory() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


def write_file(path: Path, images: int = IMAGES, annotations: int = ANNOTATIONS) -> None:
    """A COCO file like train2017's, in no order: outlines, some of them in two parts, and one crowd in 86 objects."""
    random = np.random.default_rng(0)
    entries = [_image(number) for number in range(images)]
    outlines, crowds = [_outline(random) for _ in range(OUTLINES)], [_crowd(random) for _ in range(50)]
    categories = [{"id": 1 + number, "name": f"class {number}"} for number in range(CATEGORIES)]
    chosen, of_image = random.integers(0, OUTLINES, (2, annotations)), random.integers(0, images, annotations)

    def objects() -> Iterator[bytes]:
        for number in range(annotations):
            outline, box = outlines[chosen[0, number]]
            crowd = number % 86 == 0
            parts = [outline, outlines[chosen[1, number]][0]] if number % 13 == 0 else [outline]
            entry = {
                "segmentation": crowds[number % len(crowds)] if crowd else parts,
                "area": round(box[2] * box[3] * 0.7, 4),
                "iscrowd": int(crowd),
                "image_id": entries[of_image[number]]["id"],
                "bbox": box,
                "category_id": 1 + number % CATEGORIES,
                "id": number + 1,
            }
            yield (b"," if number else b"") + msgspec.json.encode(entry)

    with path.open("wb") as file:
        head = {"info": {"year": 2017}, "images": entries, "categories": categories}
        file.write(msgspec.json.encode(head)[:-1] + b',"annotations":[')
        file.writelines(objects())
        file.write(b"]}")


def _image(number: int) -> dict[str, Any]:
    name = f"{number:012d}.jpg"
    return {
        "license": 1 + number % 8,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": HEIGHT,
        "width": WIDTH,
        "date_captured": "2013-11-14 11:18:45",
        "id": 9 + 4 * number,
    }


def _outline(random: np.random.Generator) -> tuple[list[float], list[float]]:
    """A polygon and its box."""
    count = int(np.clip(random.gamma(2, 12.5), 4, 200))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = random.uniform(8, 80) * random.uniform(0.8, 1.2, (count, 1))
    centre = random.uniform((0, 0), (WIDTH, HEIGHT))
    points = (centre + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)).clip(0, (WIDTH, HEIGHT)).round(2)
    box = np.concatenate((points.min(axis=0), np.ptp(points, axis=0))).round(2)
    return points.ravel().tolist(), box.tolist()


def _crowd(random: np.random.Generator) -> dict[str, Any]:
    cuts = np.sort(random.choice(HEIGHT * WIDTH, 200, replace=False))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(cuts, prepend=0, append=HEIGHT * WIDTH).tolist()}
