"""What the mock server does wrong, as values, and the pure decision for one request.

Every decision is a hash of (seed, what is decided, tile address, how often that tile was asked
for), so two runs with the same seed meet the same faults whatever the order of arrival.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import NormalDist
from typing import Final, Literal, get_args

import xxhash

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId

Distribution = Literal["fixed", "uniform", "normal", "lognormal", "heavy_tail"]
DISTRIBUTIONS: Final[tuple[Distribution, ...]] = get_args(Distribution)

Kind = Literal[
    "short_length",
    "cut_chunked",
    "cut_close",
    "cut_gzip",
    "bit_flip",
    "xml_200",
    "xml_as_png",
    "html_200",
    "empty_200",
    "blank_200",
    "wrong_tile",
    "header_bomb",
    "gzip_bomb",
    "close_before",
    "reset_before",
    "reset_mid",
    "black_hole",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
# Kinds that damage a tile's own body. An absent tile and a HEAD have none: they are answered as usual.
BODY_KINDS: Final[frozenset[Kind]] = frozenset(
    {"short_length", "cut_chunked", "cut_close", "cut_gzip", "bit_flip", "wrong_tile", "reset_mid"}
)

# Shape of the heavy tail: finite mean (3 x the minimum), infinite variance.
HEAVY_TAIL_SHAPE: Final = 1.5
# The longest delay any distribution may draw.
LATENCY_MS_MAX: Final = 60_000.0
_NORMAL: Final = NormalDist()


def luck(seed: int, salt: str, address: str, attempt: int) -> float:
    """A number in [0, 1) that depends on the four arguments only."""
    return xxhash.xxh3_64_intdigest(f"{seed}|{salt}|{address}|{attempt}".encode()) / 2**64


def _need(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class Latency:
    """Delay before an answer, in milliseconds.

    fixed: `ms`. uniform: `ms` +- `jitter_ms`. normal: mean `ms`, deviation `jitter_ms`, never below 0.
    lognormal: mean `ms`, deviation `jitter_ms`. heavy_tail: Pareto, minimum `ms`, shape HEAVY_TAIL_SHAPE.
    Never above LATENCY_MS_MAX.

    Raises:
        ConfigError: Negative, above the limit, or a jitter the distribution has no use for.
    """

    ms: float = 0.0
    jitter_ms: float = 0.0
    distribution: Distribution = "fixed"

    def __post_init__(self) -> None:
        _need(0 <= self.ms <= LATENCY_MS_MAX, f"latency_ms: 0 to {LATENCY_MS_MAX:g}, not {self.ms:g}")
        _need(0 <= self.jitter_ms <= LATENCY_MS_MAX, f"jitter_ms: 0 to {LATENCY_MS_MAX:g}")
        if self.distribution not in DISTRIBUTIONS:
            raise ConfigError(f"latency_distribution: one of {', '.join(DISTRIBUTIONS)}")
        if self.jitter_ms and self.distribution in ("fixed", "heavy_tail"):
            raise ConfigError(
                f"jitter_ms means nothing to the distribution {self.distribution}:"
                " leave it out, or choose uniform, normal or lognormal"
            )
        if self.distribution == "lognormal":
            _need(self.ms > 0, "latency_ms: a lognormal needs more than 0")

    def draw_s(self, chance: float) -> float:
        """The delay in seconds for a `chance` in [0, 1)."""
        return min(max(self._draw_ms(chance), 0.0), LATENCY_MS_MAX) / 1000.0

    def _draw_ms(self, chance: float) -> float:
        if self.distribution == "uniform":
            return self.ms + self.jitter_ms * (2.0 * chance - 1.0)
        # The inverse of the normal distribution is infinite at 0.
        inner = min(max(chance, 1e-12), 1.0 - 1e-12)
        if self.distribution == "normal":
            return self.ms + self.jitter_ms * _NORMAL.inv_cdf(inner)
        if self.distribution == "lognormal":
            variance = math.log1p((self.jitter_ms / self.ms) ** 2)
            centre = math.log(self.ms) - variance / 2.0
            return math.exp(centre + math.sqrt(variance) * _NORMAL.inv_cdf(inner))
        if self.distribution == "heavy_tail":
            return self.ms * math.pow(1.0 - inner, -1.0 / HEAVY_TAIL_SHAPE)
        return self.ms


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The Retry-After header of 429 and 503 (RFC 9110, 10.2.3).

    `seconds`: the number, rounded up. `date`: an HTTP date that many seconds ahead of the server's
    clock. `raw`: `text` as it stands, which announces no wait; an empty
    `text` leaves the header out.
    """

    form: Literal["seconds", "date", "raw"] = "seconds"
    delay_s: float = 1.0
    text: str = ""

    def __post_init__(self) -> None:
        _need(0 <= self.delay_s < 10**9, "retry_after: seconds from 0 to 10^9; for anything else: raw:TEXT")
        _need(self.text.isprintable() and self.text.isascii(), "retry_after: printable ASCII only")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: `per_s` tokens a second, at most `burst` of them; none left means 429."""

    per_s: float
    burst: int = 1

    def __post_init__(self) -> None:
        _need(self.per_s > 0, f"rate_limit: more than 0 a second, not {self.per_s:g}")
        _need(self.burst >= 1, f"burst: at least 1, not {self.burst}")


@dataclass(frozen=True, slots=True)
class Bursts:
    """429 for `for_s` seconds at the end of every `every_s`: good first, then bad."""

    every_s: float
    for_s: float

    def __post_init__(self) -> None:
        _need(0 < self.for_s <= self.every_s, "burst_429: EVERY:FOR with 0 < FOR <= EVERY, in seconds")


@dataclass(frozen=True, slots=True)
class Capacity:
    """`servers` workers that each need `service_ms` for one tile; others wait; over `queue_max`: 503."""

    servers: int
    service_ms: float
    queue_max: int = 1000

    def __post_init__(self) -> None:
        _need(self.servers >= 1, "capacity: at least 1 server")
        _need(0 < self.service_ms <= LATENCY_MS_MAX, f"capacity: service time 0 to {LATENCY_MS_MAX:g} ms")
        _need(self.queue_max >= 0, "capacity: the queue's length is 0 or more")


@dataclass(frozen=True, slots=True)
class SlowBody:
    """Bodies trickle at `bytes_per_s`, for `share` of the requests."""

    bytes_per_s: float
    share: float = 1.0

    def __post_init__(self) -> None:
        _need(self.bytes_per_s > 0, "slow_body: more than 0 bytes a second")
        _need(0 <= self.share <= 1, "slow_body: share from 0 to 1")


@dataclass(frozen=True, slots=True)
class Faults:
    """Everything that can go wrong. The default is a faultless server.

    `errors` maps a status (400 to 599) to its share; `shares` maps a kind to its share. All these
    exclude one another: one draw decides, so the shares add up, to 1 at most. `slow_body`, `latency`
    and the limits come on top.

    `retry_after` None: 429 names the shortest honest wait (1 s if drawn by share), 503 has no header.

    Raises:
        ConfigError: A share outside 0..1, a sum above 1, an unknown kind or status.
    """

    latency: Latency = Latency()
    errors: Mapping[int, float] = field(default_factory=dict)
    shares: Mapping[Kind, float] = field(default_factory=dict)
    retry_after: RetryAfter | None = None
    rate_limit: RateLimit | None = None
    burst_429: Bursts | None = None
    capacity: Capacity | None = None
    slow_body: SlowBody | None = None

    def __post_init__(self) -> None:
        for status, share in self.errors.items():
            _need(400 <= status <= 599, f"errors: a status from 400 to 599, not {status}")
            _need(0 <= share <= 1, f"errors: the share of {status} must be 0 to 1, not {share:g}")
        for kind, share in self.shares.items():
            _need(kind in KINDS, f"no fault {kind!r}; there are {', '.join(KINDS)}")
            _need(0 <= share <= 1, f"the share of {kind} must be 0 to 1, not {share:g}")
        total = math.fsum(self.errors.values()) + math.fsum(self.shares.values())
        _need(total <= 1.0 + 1e-9, f"the shares of errors and faults add up to {total:g}, more than 1")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided for one request before its tile is looked at.

    `status` is an error's status, or 0. `kind` is a fault's kind, or None. Not both.
    """

    status: int = 0
    kind: Kind | None = None
    delay_s: float = 0.0
    bytes_per_s: float = 0.0


VERDICT_FINE: Final = Verdict()


class Judge:
    """`Faults` prepared for quick decisions. Immutable after construction."""

    __slots__ = ("_bounds", "_outcomes", "_seed", "_simple", "faults")

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self._seed = seed
        pairs: list[tuple[int | Kind, float]] = [*sorted(faults.errors.items())]
        # In the order of KINDS, so that the order of a mapping changes nothing.
        pairs += [(kind, faults.shares[kind]) for kind in KINDS if kind in faults.shares]
        self._outcomes = [outcome for outcome, share in pairs if share > 0]
        self._bounds = list(accumulate(share for _, share in pairs if share > 0))
        self._simple = not self._outcomes and faults.latency.ms == 0 and not faults.latency.jitter_ms
        self._simple = self._simple and faults.slow_body is None

    def decide(self, tile_id: TileId, attempt: int) -> Verdict:
        """The verdict for the `attempt`-th request for a tile, from 1."""
        if self._simple:
            return VERDICT_FINE
        faults, seed, address = self.faults, self._seed, str(tile_id)
        status, kind = 0, None
        if self._outcomes:
            index = bisect_right(self._bounds, luck(seed, "fault", address, attempt))
            if index < len(self._outcomes):
                outcome = self._outcomes[index]
                if isinstance(outcome, int):
                    status = outcome
                else:
                    kind = outcome
        delay_s = faults.latency.draw_s(luck(seed, "latency", address, attempt))
        slow, bytes_per_s = faults.slow_body, 0.0
        if slow is not None and luck(seed, "slow", address, attempt) < slow.share:
            bytes_per_s = slow.bytes_per_s
        return Verdict(status, kind, delay_s, bytes_per_s)
