"""What the processes of one training exchange: the job, their shares of a step, the sum of gradients, when to stop.

A team of one exchanges nothing. How processes come together is training/distributed.py's business.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from endcap.errors import TrainingError
from endcap.training.sequences import WindowBatch


@dataclass(slots=True)
class Team:
    """One of `size` processes that learn together; number 0 leads: it judges, saves and speaks."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    steps: dist.ProcessGroup | None = None  # exchanges of a step: who is silent for minutes is lost
    jobs: dist.ProcessGroup | None = None  # in which followers wait for the leader, for days if need be
    busy: bool = False  # followers are at a job
    lost: bool = False  # a process no longer answers

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Of dropout: each process drops other places of its own share."""
        return seed + 1_000_003 * self.rank

    def call(self, job: object) -> None:
        """Hand a job to the followers; None sends them home."""
        if self.size > 1 and self.leads:
            self.busy = job is not None
            with self._answers():
                dist.broadcast_object_list([job], src=0, group=self.jobs)

    def await_job(self) -> Any:
        """What the leader called for."""
        box: list[Any] = [None]
        with self._answers():
            dist.broadcast_object_list(box, src=0, group=self.jobs)
        return box[0]

    def part(self, batch: WindowBatch, seen_I: Tensor) -> tuple[WindowBatch, float]:
        """This process's windows of a step, and its share of the step's questions that can be asked (0 to 1)."""
        if self.size == 1:
            return batch, 1.0
        part = batch.every(self.size, self.rank)
        whole = int(batch.asked(seen_I).sum())
        return part, int(part.asked(seen_I).sum()) / max(whole, 1)

    def sum_up(self, parameters: Iterable[nn.Parameter], value: float) -> float:
        """Replace gradients by their sum over all processes, and return the sum of `value`.

        One exchange of all numbers. A parameter that no process has a gradient for stays without.
        """
        if self.size == 1:
            return value
        own = list(parameters)
        has = [float(parameter.grad is not None) for parameter in own]
        pieces = [(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1).float() for p in own]
        flat = torch.cat([*pieces, torch.tensor([value, *has], device=pieces[0].device)])
        with self._answers():
            dist.all_reduce(flat, group=self.steps)
        *summed, tail = torch.split(flat, [parameter.numel() for parameter in own] + [len(has) + 1])
        for parameter, gradient, processes in zip(own, summed, tail[1:].tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if processes else None
        return float(tail[0])

    def agree(self, stop: bool) -> bool:
        """Whether the leader stops here; what followers say does not count."""
        if self.size == 1:
            return stop
        told = torch.tensor([int(stop)])
        with self._answers():
            dist.broadcast(told, src=0, group=self.jobs)
        return bool(told)

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn what torch says when a process is gone, or hangs for too long, into an error of ours."""
        try:
            yield
        except (RuntimeError, pickle.UnpicklingError) as error:
            self.lost = True
            said = (str(error).splitlines() or [""])[0][:200]
            raise TrainingError(
                f"process {self.rank} lost touch with the others ({said})",
                field="train.processes",
                value=self.size,
                action="See what the other processes said last; run the stage again, it goes on from its checkpoint.",
            ) from error


_TEAM: ContextVar[Team | None] = ContextVar("team", default=None)


def current_team() -> Team:
    """The team this process is in; a team of one unless training/distributed.py has made another."""
    return _TEAM.get() or Team()


@contextlib.contextmanager
def teamed(team: Team) -> Iterator[Team]:
    """Be in this team for a while."""
    token = _TEAM.set(team)
    try:
        yield team
    finally:
        _TEAM.reset(token)
