"""Threads for one kind of work, with a queue that ends: a call that would wait behind too many is turned away at once.

So what was accepted keeps its time, and health checks, which need no such thread, answer however many wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from endcap.errors import Overloaded

if TYPE_CHECKING:
    from endcap.serving.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """`threads` of them; at most `waiting` calls wait for one, first come first served."""

    def __init__(self, work: str, threads: int, waiting: int, metrics: Metrics) -> None:
        self._work, self._threads, self._waiting, self._metrics = work, threads, waiting, metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=work)
        self._count, self._counting = 0, threading.Lock()

    async def run(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `do` returns. A caller that gives up while it waits leaves the queue; work that began ends by itself.

        Raises:
            Overloaded: as many as may already wait; `do` was not called.
        """
        with self._counting:
            if self._count >= self._threads + self._waiting:
                self._metrics.shed.labels(self._work, "queue_full").inc()
                raise Overloaded(
                    f"too many calls wait ({self._waiting})",
                    field=self._work,
                    action="Wait as Retry-After says and send it again; nothing of this call was done.",
                )
            self._counted(+1)
        try:
            future = self._pool.submit(do, *args, **kwargs)
        except RuntimeError:  # the process is about to end
            with self._counting:
                self._counted(-1)
            raise
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let what began end; what waits is not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _done(self, _future: Future[T]) -> None:
        with self._counting:
            self._counted(-1)

    def _counted(self, more: int) -> None:
        self._count += more
        self._metrics.waiting.labels(self._work).set(max(0, self._count - self._threads))
