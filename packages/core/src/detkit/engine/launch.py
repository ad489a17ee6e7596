"""Several training processes on this machine, through torch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from detkit.engine.stop import EXIT_STOPPED

# After an error the process group's threads still run, and can abort the interpreter while it shuts down: the exit
# code would be lost.
_MAIN = """
import os, sys
from detkit.cli.main import main
if code := main():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `detkit ARGUMENTS` in several processes that know of each other, as torchrun would; the exit code.

    Args:
        arguments: of the command, the first is its name.
        processes: how many; on GPUs at most one for each.
    """
    # else each process would take all cores; torchrun gives each one thread, too few on a large CPU
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # the processes have said what is wrong
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="detkit",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-c", _MAIN, *arguments)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return EXIT_STOPPED if EXIT_STOPPED in codes else max(codes[0], 1)
    except SignalException:  # passed on to the processes, which have saved
        return EXIT_STOPPED
    return 0
