"""Real processes that run `detkit`, forked from one that has imported torch: importing it anew takes longer than what
most tests do."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext


def forking() -> ForkServerContext:
    """The context of multiprocessing whose processes are forked from one that has imported torch and done nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["detkit.engine.train", "detkit.testing.evaluator"])
    return context


class Job:
    """A function in a process of its own, begun at once, which knows nothing of what this one has loaded and changed.

    Args:
        function: importable by name in the new process.
        arguments: of the function; its answer is the exit code, as of `sys.exit`.
        folder: an empty one, to hold what the process prints: `out` and `err`.
        environment: environment variables of the process, all of them. PYTHONPATH counts, and OMP_NUM_THREADS.
        leader: whether it begins a process group of its own, so that all of its processes can be sent a signal.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: object,
        folder: Path,
        environment: Mapping[str, str],
        leader: bool = False,
    ) -> None:
        self._files = (folder / "out", folder / "err")
        for file in self._files:
            file.touch()
        context = forking()
        texts = tuple(map(str, arguments))
        self._process = context.Process(
            target=_run, args=(function, texts, tuple(map(str, self._files)), dict(environment), leader)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def wait_for(self, text: str, timeout: float = 300) -> None:
        """Wait until it has written a text to stderr.

        Raises:
            TimeoutError: it has not, within so many seconds or before it ended; it is killed.
        """
        end = time.monotonic() + timeout
        while text not in self._err():
            if self._process.exitcode is not None or time.monotonic() > end:
                self._process.kill()
                raise TimeoutError(f"the process has not written {text!r}; its stderr:\n{self._err()}")
            time.sleep(0.02)

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """What it printed and its exit code (the negative number of the signal that killed it), when it has ended.

        Raises:
            TimeoutError: it has not after so many seconds; it is killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"the process has not ended within {timeout:g} seconds; its stderr:\n{self._err()}")
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return subprocess.CompletedProcess([], self._process.exitcode, out, err)

    def _err(self) -> str:
        return self._files[1].read_text(encoding="utf-8")


def detkit(*arguments: str) -> int:
    """`detkit ARGUMENTS`, for `Job`."""
    from detkit.cli.main import main

    return main(list(arguments))


def code(text: str) -> None:
    """`python -c TEXT`, for `Job`."""
    exec(text, {"__name__": "__main__"})


def module(name: str, *arguments: str) -> None:
    """`python -m NAME ARGUMENTS`, for `Job`."""
    sys.argv[1:] = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run(
    function: Callable[..., Any],
    arguments: tuple[str, ...],
    files: tuple[str, str],
    environment: Mapping[str, str],
    leader: bool,
) -> None:
    import torch

    multiprocessing.set_start_method(None, force=True)  # its own processes are started as everybody's are
    if leader:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    with suppress(KeyError):
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    for number, file in enumerate(files, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    code: object = 1
    try:
        code = function(*arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    # an error from here on changes no exit code, as at the end of an interpreter; multiprocessing would have it do so
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
