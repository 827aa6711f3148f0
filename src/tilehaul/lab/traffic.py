"""Limits, queues and counters of the mock server. Time is an argument everywhere."""

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Bursts, Capacity, RateLimit

# Addresses counted one by one, around 150 bytes each; the rest is one number.
TILES_COUNTED_MAX: Final = 2_000_000


class TokenBucket:
    """Tokens refill at a steady rate up to the burst; a request takes one or is told to wait."""

    __slots__ = ("_limit", "_then_s", "_tokens")

    def __init__(self, limit: RateLimit, now_s: float) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._then_s = now_s

    def take(self, now_s: float) -> float:
        """0.0 when a token was taken; else the seconds until there is one, and none is taken."""
        limit = self._limit
        grown = (now_s - self._then_s) * limit.per_s
        self._tokens = min(float(limit.burst), self._tokens + grown)
        self._then_s = now_s
        # A client that waits exactly as told must not fail by a rounding error.
        if self._tokens >= 1.0 - 1e-6:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / limit.per_s


def burst_left_s(bursts: Bursts, elapsed_s: float) -> float:
    """Seconds until the present burst of 429 ends, 0.0 outside of one."""
    phase_s = math.fmod(elapsed_s, bursts.every_s)
    return bursts.every_s - phase_s if phase_s >= bursts.every_s - bursts.for_s else 0.0


class ServiceQueue:
    """First come, first served by a fixed number of workers, in computed time.

    A client that goes away keeps its place, as it does with most real servers.
    """

    __slots__ = ("_capacity", "_free_at_s", "_starts_s", "waiting_peak")

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._free_at_s: list[float] = []
        self._starts_s: deque[float] = deque()
        self.waiting_peak = 0

    def enter(self, now_s: float) -> float | None:
        """Seconds from now until this request is served, or None when the queue is full."""
        starts, free = self._starts_s, self._free_at_s
        while starts and starts[0] <= now_s:
            starts.popleft()
        while free and free[0] <= now_s:
            heapq.heappop(free)
        start_s = now_s
        if len(free) >= self._capacity.servers:
            if len(starts) >= self._capacity.queue_max:
                return None
            start_s = heapq.heappop(free)
            starts.append(start_s)
            self.waiting_peak = max(self.waiting_peak, len(starts))
        end_s = start_s + self._capacity.service_ms / 1000.0
        heapq.heappush(free, end_s)
        return end_s - now_s


@dataclass(frozen=True, slots=True)
class MockStats:
    """What the server saw since its start or the last reset.

    `requests` counts all but those for /_/ addresses, `by_status` the answers begun, `by_fault` the
    faults done: kinds, `connections_full`, `error_<status>`, `rate_limit`, `burst_429`, `queue_full`,
    `slow_body`. `in_flight` are unanswered now; a ready tile without latency never waits, so
    `peak_in_flight` says something only with one. `abandoned` were left by the client before the
    answer. `bytes_sent` counts bodies as they crossed the wire.
    `tiles_seen` are different addresses, `max_per_tile` the most requests for one of them.
    `tiles_uncounted` are requests beyond TILES_COUNTED_MAX addresses.
    `inside_retry_after` came before the end of a wait the server had announced; `waits_announced` counts
    the waits that began while none was running, `wait_left_s` is what is left of the last one.
    """

    requests: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    by_fault: dict[str, int] = field(default_factory=dict)
    abandoned: int = 0
    bytes_sent: int = 0
    tiles_seen: int = 0
    max_per_tile: int = 0
    tiles_uncounted: int = 0
    inside_retry_after: int = 0
    waits_announced: int = 0
    wait_left_s: float = 0.0
    in_flight: int = 0
    peak_in_flight: int = 0
    queue_peak: int = 0
    connections_open: int = 0
    connections_total: int = 0
    last_user_agent: str = ""
    elapsed_s: float = 0.0


class Tally:
    """The counters while they move. One owner: the server's loop."""

    def __init__(self) -> None:
        self.connections_open = 0
        self.in_flight = 0
        self.reset(0.0)

    def reset(self, now_s: float) -> None:
        """Begin again; connections and requests that are open stay counted as open."""
        self.begun_s = now_s
        self.requests = 0
        self.by_status: Counter[int] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.abandoned = 0
        self.bytes_sent = 0
        self.per_tile: dict[TileId, int] = {}
        self.max_per_tile = 0
        self.tiles_uncounted = 0
        self.inside_retry_after = 0
        self.waits_announced = 0
        self.peak_in_flight = self.in_flight
        self.connections_total = self.connections_open
        self.last_user_agent = ""
        self._wait_until_s = -math.inf

    def arrive(self, tile_id: TileId, now_s: float) -> int:
        """Count a request for a tile; answers which one it is for this tile, from 1."""
        if now_s < self._wait_until_s:
            self.inside_retry_after += 1
        count = self.per_tile.get(tile_id, 0) + 1
        if count == 1 and len(self.per_tile) >= TILES_COUNTED_MAX:
            self.tiles_uncounted += 1
            return 1
        self.per_tile[tile_id] = count
        self.max_per_tile = max(self.max_per_tile, count)
        return count

    def announce(self, now_s: float, delay_s: float) -> None:
        """A Retry-After of `delay_s` went out at `now_s`; the latest end holds."""
        self.waits_announced += now_s >= self._wait_until_s
        self._wait_until_s = max(self._wait_until_s, now_s + delay_s)

    def begin(self) -> None:
        """A request is being worked on."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def freeze(self, now_s: float, *, queue_peak: int) -> MockStats:
        return MockStats(
            requests=self.requests,
            by_status=dict(sorted(self.by_status.items())),
            by_fault=dict(sorted(self.by_fault.items())),
            abandoned=self.abandoned,
            bytes_sent=self.bytes_sent,
            tiles_seen=len(self.per_tile),
            max_per_tile=self.max_per_tile,
            tiles_uncounted=self.tiles_uncounted,
            inside_retry_after=self.inside_retry_after,
            waits_announced=self.waits_announced,
            wait_left_s=max(self._wait_until_s - now_s, 0.0),
            in_flight=self.in_flight,
            peak_in_flight=self.peak_in_flight,
            queue_peak=queue_peak,
            connections_open=self.connections_open,
            connections_total=self.connections_total,
            last_user_agent=self.last_user_agent,
            elapsed_s=now_s - self.begun_s,
        )
