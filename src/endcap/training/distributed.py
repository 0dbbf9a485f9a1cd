"""Training on several processes: torchrun starts them, the first runs the fit, the others take their share of each training.

Every process makes the same batches from the same seed, takes each `size`-th window, and adds its gradient to the others'; so
the loss is that of one process. gloo on CPUs, nccl where each process has a GPU of its own. Only the leader reads files.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

from endcap.errors import TrainingError
from endcap.training.team import Team, teamed
from endcap.training.trainer import take_part

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

logger = logging.getLogger(__name__)
R = TypeVar("R")
STEP_TIMEOUT = timedelta(minutes=5)  # of one exchange within an epoch: then a process counts as lost
JOB_TIMEOUT = timedelta(days=7)  # followers wait while the leader counts, judges and learns what has no share


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def together(work: Callable[[], R], *, step_timeout: timedelta = STEP_TIMEOUT) -> R | None:
    """`work()`, in which each training is shared among the processes of torchrun. None in all of them but the first.

    Raises:
        TrainingError: as `work` does, or a process is gone or silent for longer than `step_timeout`.
    """
    if not launched():
        return work()
    with _joined(step_timeout) as team:
        if not team.leads:
            _follow(team)
            return None
        try:
            return work()
        finally:
            if not team.busy and not team.lost:
                team.call(None)  # also after an error of its own, which is then the only one that is reported


def _follow(team: Team) -> None:
    while (job := team.await_job()) is not None:
        try:
            take_part(team, job)
        except TrainingError:
            if team.lost:
                raise
            with suppress(TrainingError):  # every process meets a loss that is not finite in the same step; the leader says so
                team.await_job()
            return


@contextmanager
def _joined(step_timeout: timedelta) -> Iterator[Team]:
    local, beside = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count()
    if 0 < gpus < beside:
        logger.warning("too_few_gpus", extra={"gpus": gpus, "processes": beside})  # two processes on one are refused by nccl
    device = torch.device("cuda", local) if gpus >= beside else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(max(len(os.sched_getaffinity(0)) // beside, 1))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    steps = dist.new_group(timeout=step_timeout)
    jobs = dist.new_group(backend="gloo", timeout=JOB_TIMEOUT)
    try:
        with teamed(Team(dist.get_rank(), dist.get_world_size(), device, steps, jobs)) as team:
            yield team
    finally:
        dist.destroy_process_group()


def launch(command: Sequence[str], processes: int) -> None:
    """Run a command in several processes on this machine, as `torchrun --standalone --nproc-per-node` does.

    Raises:
        TrainingError: names the processes that failed; the rest are ended.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="endcap-train-") as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )  # fmt: skip
        try:
            elastic_launch(config, command[0])(*command[1:])
        except ChildFailedError as error:
            raise _failed(error, processes) from None


def _failed(error: ChildFailedError, processes: int) -> TrainingError:
    codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    causes = {rank: code for rank, code in codes.items() if code != -signal.SIGTERM} or codes  # torchrun terminates the rest
    said = "; ".join(f"process {rank} {_how(code)}" for rank, code in sorted(causes.items()))
    return TrainingError(
        said,
        field="train.processes",
        value=processes,
        action="See what they said above; run the stage again, it goes on from its checkpoint.",
    )


def _how(exitcode: int) -> str:
    return f"was killed by signal {-exitcode}" if exitcode < 0 else f"ended with exit code {exitcode}"
