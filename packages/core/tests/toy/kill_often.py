"""Trains config.yaml in one process, and again in processes that are killed at random times and resumed until one ends.

usage: python kill_often.py FOLDER. FOLDER holds config.yaml; FOLDER/whole and FOLDER/killed are made.
Prints how many processes were killed.
Forks, so that only one process has to import torch.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from detkit.config import Config
from detkit.engine.train import train

folder, delays = Path(sys.argv[1]), random.Random(0)
config = Config.load(folder / "config.yaml")


def start(out: Path) -> int:
    """The id of a new process that trains, or goes on training."""
    child = os.fork()
    if child == 0:
        train(config, out, resume=True)
        os._exit(0)
    return child


began = time.perf_counter()
assert os.waitpid(start(folder / "whole"), 0)[1] == 0
seconds = time.perf_counter() - began
kills = 0
while True:
    child = start(folder / "killed")
    # the first ones come soon: before a checkpoint, or while one is written
    time.sleep(delays.uniform(0, seconds / (10 if kills < 3 else delays.choice((2, 10)))))
    done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    kills += 1
    assert kills < 200
print(kills)
