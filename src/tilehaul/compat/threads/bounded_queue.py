"""A queue between threads that holds so much and no more."""

import queue
from typing import Generic, TypeVar

T = TypeVar("T")

MAXSIZE_DEFAULT = 100
# A partner that has died is noticed after this long, instead of being waited for without end.
PUT_S = 10.0
GET_S = 5.0


class BoundedQueue(Generic[T]):
    """First in, first out, at most `maxsize` items, >= 1: the producer waits for the consumer.

    Raises:
        ValueError: `maxsize` is less than 1. (For `queue.Queue` that would mean: no limit.)
    """

    def __init__(self, maxsize: int = MAXSIZE_DEFAULT) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be 1 or more, not {maxsize}")
        self._items: queue.Queue[T] = queue.Queue(maxsize)

    @property
    def maxsize(self) -> int:
        return self._items.maxsize

    def put(self, item: T, timeout: float | None = PUT_S) -> None:
        """Add an item, waiting for room.

        Args:
            item: Anything.
            timeout: Seconds, >= 0; None: however long it takes.

        Raises:
            queue.Full: No room came free in time; the item was not added.
            ValueError: The timeout is negative.
        """
        self._items.put(item, timeout=timeout)

    def get(self, timeout: float | None = GET_S) -> T:
        """Take the oldest item, waiting for one.

        Raises:
            queue.Empty: None came within `timeout` seconds (>= 0; None: however long it takes).
            ValueError: The timeout is negative.
        """
        return self._items.get(timeout=timeout)

    def qsize(self) -> int:
        """Items now; with other threads at work it may be wrong a moment later."""
        return self._items.qsize()

    def empty(self) -> bool:
        return self._items.empty()

    def full(self) -> bool:
        return self._items.full()
