"""Work that runs in a thread beside other work, and ends soon when that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from endcap.progress import Progress

T = TypeVar("T")


@contextmanager
def beside(name: str, work: Callable[[Progress], T], progress: Progress) -> Iterator[Callable[[], T]]:
    """Run `work` while the block runs. Gives what waits for its result, or raises its error; it is over when the block is left.

    If the block raises, the work is cut off the next time that it tells how far it is: nobody waits for the rest.
    """
    left = threading.Event()

    def tell(line: str) -> None:
        if left.is_set():
            raise CancelledError
        progress(line)

    with ThreadPoolExecutor(1, name) as pool:
        running = pool.submit(work, tell)
        try:
            yield running.result
        except BaseException:
            left.set()
            raise
