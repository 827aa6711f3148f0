"""Models of upstreams, in virtual time: what a lane meets in the world, reduced to what matters to a limit.

The figures of each model are those of `resilience` 1.2; where that is silent, a choice is said so here.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

# An answer: status, seconds of Retry-After or None. Called when it has arrived.
Reply = Callable[[int, float | None], None]

# A rejection costs a server next to nothing; a network's round trip remains (our choice).
REJECTION_S = 0.02
SERVICE_S = 0.1
RETRY_AFTER_S = 1.0


class World:
    """Virtual time: a heap of calls to come. No thread, no event loop, no waiting."""

    def __init__(self, seed: int) -> None:
        self.now_s = 0.0
        self.luck = Random(seed)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0

    def at(self, when_s: float, call: Callable[..., None], *args: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when_s, self._order, call, args))

    def run(self, until_s: float) -> None:
        """Do everything due before `until_s`."""
        heap = self._heap
        while heap and heap[0][0] < until_s:
            self.now_s, _, call, args = heapq.heappop(heap)
            call(*args)
        self.now_s = until_s


class Upstream(Protocol):
    """`inside`: requests that came within a Retry-After it had given. `queue_mean` so far."""

    inside: int

    def arrive(self, reply: Reply) -> None: ...

    def queue_mean(self) -> float: ...


class _Queue:
    """The mean over time of a length that changes in steps."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since_s = 0.0
        self._area = 0.0
        self.length = 0

    def change(self, by: int) -> None:
        self._area += self.length * (self._world.now_s - self._since_s)
        self._since_s = self._world.now_s
        self.length += by

    def mean(self) -> float:
        self.change(0)
        return self._area / self._world.now_s if self._world.now_s else 0.0


class TokenBucket:
    """`per_s` requests a second, saving up to `burst`; beyond: 429 with `Retry-After: 1`.

    A burst of one second's worth is our choice: a gateway with a smaller one asks for less than a second.
    """

    def __init__(self, world: World, *, per_s: float = 100.0, burst: float = 100.0) -> None:
        self._world = world
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._filled_s = 0.0
        self._closed_until_s = 0.0
        self.inside = 0

    def arrive(self, reply: Reply) -> None:
        now_s = self._world.now_s
        if now_s < self._closed_until_s:
            self.inside += 1
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            time_s = SERVICE_S * self._world.luck.uniform(0.9, 1.1)
            self._world.at(now_s + time_s, reply, 200, None)
            return
        self._closed_until_s = now_s + RETRY_AFTER_S
        self._world.at(now_s + REJECTION_S, reply, 429, RETRY_AFTER_S)

    def queue_mean(self) -> float:
        return 0.0


class Servers:
    """So many servers, each `SERVICE_S` +-20 % a request, and one queue without end.

    `changes`: (from when, how many servers), the first at 0 s.
    """

    def __init__(self, world: World, changes: Sequence[tuple[float, int]]) -> None:
        self._world = world
        self._servers = changes[0][1]
        self._busy = 0
        self._waiting: deque[Reply] = deque()
        self._queue = _Queue(world)
        self.inside = 0
        for when_s, servers in changes[1:]:
            world.at(when_s, self._change, servers)

    def arrive(self, reply: Reply) -> None:
        self._waiting.append(reply)
        self._queue.change(1)
        self._start()

    def queue_mean(self) -> float:
        return self._queue.mean()

    def _start(self) -> None:
        while self._waiting and self._busy < self._servers:
            self._busy += 1
            self._queue.change(-1)
            time_s = SERVICE_S * self._world.luck.uniform(0.8, 1.2)
            self._world.at(self._world.now_s + time_s, self._done, self._waiting.popleft())

    def _done(self, reply: Reply) -> None:
        self._busy -= 1
        self._start()
        reply(200, None)

    def _change(self, servers: int) -> None:
        self._servers = servers
        self._start()


class Thrashing:
    """Works well up to 16 at once; above, all get slower than in proportion (paging, locks); above 64: 503.

    The exponent makes 64 at once yield 16 a second, an eighth of the best (`resilience` 1.2).
    """

    SERVERS = 16
    MOST = 64
    EXPONENT = 2.66

    def __init__(self, world: World) -> None:
        self._world = world
        self._inside = 0
        self._queue = _Queue(world)
        self.inside = 0

    def arrive(self, reply: Reply) -> None:
        now_s = self._world.now_s
        if self._inside >= self.MOST:
            self._world.at(now_s + REJECTION_S, reply, 503, None)
            return
        self._inside += 1
        if self._inside > self.SERVERS:
            self._queue.change(1)
        load = max(1.0, self._inside / self.SERVERS)
        time_s = SERVICE_S * self._world.luck.uniform(0.8, 1.2) * load**self.EXPONENT
        self._world.at(now_s + time_s, self._done, reply)

    def queue_mean(self) -> float:
        return self._queue.mean()

    def _done(self, reply: Reply) -> None:
        if self._inside > self.SERVERS:
            self._queue.change(-1)
        self._inside -= 1
        reply(200, None)


class Shedding:
    """So many at once, each `SERVICE_S` +-20 %; who is one too many is refused at once: 503, no Retry-After.

    What nginx's `limit_conn` does. `failing` of the answers are 502 whatever the load: one backend of several
    is broken.
    """

    def __init__(self, world: World, *, at_once: int = 8, failing: float = 0.0) -> None:
        self._world = world
        self._at_once = at_once
        self._failing = failing
        self._busy = 0
        self.inside = 0

    def arrive(self, reply: Reply) -> None:
        now_s = self._world.now_s
        if self._busy >= self._at_once:
            self._world.at(now_s + REJECTION_S, reply, 503, None)
            return
        self._busy += 1
        self._world.at(now_s + SERVICE_S * self._world.luck.uniform(0.8, 1.2), self._done, reply)

    def queue_mean(self) -> float:
        return 0.0

    def _done(self, reply: Reply) -> None:
        self._busy -= 1
        reply(502 if self._world.luck.random() < self._failing else 200, None)


class Cdn:
    """As many at once as anybody likes: 50 ms in the middle, with a tail (log-normal, sigma 0.25)."""

    MEDIAN_S = 0.05
    SIGMA = 0.25

    def __init__(self, world: World) -> None:
        self._world = world
        self.inside = 0

    def arrive(self, reply: Reply) -> None:
        time_s = self.MEDIAN_S * self._world.luck.lognormvariate(0.0, self.SIGMA)
        self._world.at(self._world.now_s + time_s, reply, 200, None)

    def queue_mean(self) -> float:
        return 0.0


class Bursts:
    """50 ms, no limit; but for the last 0.3 s of every 3 s all get 429, however few they are.

    A deploy, a neighbour's flood, a gateway that restarts: push-back that no restraint of ours prevents.
    """

    SERVICE_S = 0.05
    EVERY_S = 3.0
    FOR_S = 0.3

    def __init__(self, world: World) -> None:
        self._world = world
        self._closed_until_s = 0.0
        self.inside = 0

    def arrive(self, reply: Reply) -> None:
        now_s = self._world.now_s
        if now_s < self._closed_until_s:
            self.inside += 1
        if now_s % self.EVERY_S >= self.EVERY_S - self.FOR_S:
            self._closed_until_s = now_s + RETRY_AFTER_S
            self._world.at(now_s + REJECTION_S, reply, 429, RETRY_AFTER_S)
            return
        self._world.at(now_s + self.SERVICE_S * self._world.luck.uniform(0.9, 1.1), reply, 200, None)

    def queue_mean(self) -> float:
        return 0.0


def _eight_servers(world: World, seconds: float) -> Upstream:  # noqa: ARG001
    return Servers(world, ((0.0, 8),))


# Name -> (what it is, how many clients share it, how to build it for a run of so many seconds).
Maker = Callable[[World, float], Upstream]
MODELS: dict[str, tuple[str, int, Maker]] = {
    "bucket": ("100 requests/s, then 429 + Retry-After: 1", 1, lambda world, _: TokenBucket(world)),
    "strict": (
        "the same without any burst: evenly, or 429",
        1,
        lambda world, _: TokenBucket(world, burst=1.0),
    ),
    "queue": ("8 servers of 100 ms, endless queue", 1, _eight_servers),
    "thrash": ("slows down above 16 at once, 503 above 64", 1, lambda world, _: Thrashing(world)),
    "cdn": ("50 ms, no limit", 1, lambda world, _: Cdn(world)),
    "drop": (
        "16 servers, 4 in the middle third, 16 again",
        1,
        lambda world, seconds: Servers(world, ((0.0, 16), (seconds / 3, 4), (2 * seconds / 3, 16))),
    ),
    "shared": ("two clients at 8 servers of 100 ms", 2, _eight_servers),
    "shed": ("8 at once, 100 ms; one more: 503 at once", 1, lambda world, _: Shedding(world)),
    "bursts": ("50 ms, no limit; 429 for 0.3 s of every 3 s", 1, lambda world, _: Bursts(world)),
}
