"""Items that wait for their next attempt: they hold neither a worker nor a permit."""

import heapq
from typing import Generic, TypeVar

from tilehaul.errors import ConfigError

T = TypeVar("T")

# `resilience` (a): a few megabytes at most. A job that has more items in trouble stops taking new ones.
WAITING_MAX = 10_000


class RetryHeap(Generic[T]):
    """A bounded heap by due time; items due at the same time leave in the order they came."""

    __slots__ = ("_heap", "_order", "size_max")

    def __init__(self, size_max: int = WAITING_MAX) -> None:
        """Raises ConfigError when `size_max` is below 1."""
        if size_max < 1:
            raise ConfigError(f"a retry heap must hold 1 item or more, not {size_max}")
        self.size_max = size_max
        self._heap: list[tuple[float, int, T]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def full(self) -> bool:
        return len(self._heap) >= self.size_max

    def push(self, item: T, due_s: float) -> bool:
        """Keep `item` until `due_s` (seconds, monotonic). False: full, the item was not taken."""
        if self.full:
            return False
        heapq.heappush(self._heap, (due_s, self._order, item))
        self._order += 1
        return True

    def pop(self, now_s: float) -> T | None:
        """The item that has been due longest, or None when none is due yet."""
        if not self._heap or self._heap[0][0] > now_s:
            return None
        return heapq.heappop(self._heap)[2]

    def next_due_s(self) -> float | None:
        """When the next item is due, or None when nothing waits."""
        return self._heap[0][0] if self._heap else None
