"""What the fault proxy does to connections: faults as values, and the pure decision for one moment.

A fault is written `KIND[=AMOUNT][@WHEN,...]`:

    delay=0.2       what comes from the upstream is handed on so many seconds later
    throttle=1000   ... at most so many bytes a second
    cut[=N]         closed after N bytes from the upstream; without N: at once
    reset[=N]       the same with a RST
    black_hole[=N]  held open in silence after N bytes; without N: accepted, and never a word
    refuse          nobody listens

`at once` is when a connection is opened or asked the next thing, before the upstream hears of it.
WHEN is `3`, `2-5`, `4-` (connections, the first is 1), `10%` (of the connections, drawn by the seed),
`5s-10s`, `5s-` (since the plan began), `5s-10s/20s` (again every 20 s). All that are given must hold.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fmod, inf
from typing import Final, Literal, Self, get_args

from tilehaul.errors import ConfigError
from tilehaul.lab.fault_words import nearest, parse_number
from tilehaul.lab.faults import luck

LinkKind = Literal["delay", "throttle", "cut", "reset", "black_hole", "refuse"]
LINK_KINDS: Final[tuple[LinkKind, ...]] = get_args(LinkKind)
End = Literal["cut", "reset", "black_hole"]
ENDS: Final[tuple[End, ...]] = get_args(End)

_CONNECTIONS: Final = re.compile(r"([0-9]{1,9})(?:(-)([0-9]{1,9})?)?")
_TIME: Final = re.compile(r"([0-9.]+)s-(?:([0-9.]+)s(?:/([0-9.]+)s)?)?")


@dataclass(frozen=True, slots=True)
class When:
    """For which connections a fault holds, and from when until before when.

    Connections are numbered from 1, both ends included. Seconds since the plan began; with `every_s` > 0
    the span comes again in each period. `share` of the connections, 0 to 1.

    Raises:
        ConfigError: An end before its beginning, a span longer than its period, a share outside 0..1.
    """

    first: int = 1
    last: int | None = None
    from_s: float = 0.0
    to_s: float = inf
    every_s: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.first < 1 or (self.last is not None and self.last < self.first):
            raise ConfigError("connections are numbered from 1: write 3, 2-5 or 4-")
        if not 0.0 <= self.from_s < self.to_s:
            raise ConfigError("a span of time begins at 0 s or later and ends after that: 5s-10s")
        if self.every_s and not 0.0 < self.to_s <= self.every_s < inf:
            raise ConfigError("a span must fit in its period: 5s-10s/20s")
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"a share is 0% to 100%, not {self.share:.0%}")

    def is_now(self, elapsed_s: float) -> bool:
        """Whether the moment is in the span."""
        phase_s = fmod(elapsed_s, self.every_s) if self.every_s else elapsed_s
        return self.from_s <= phase_s < self.to_s

    def covers(self, number: int, chance: float) -> bool:
        """Whether the connection is meant; `chance` in [0, 1) is its luck."""
        return self.first <= number and (self.last is None or number <= self.last) and chance < self.share

    def next_edge_s(self, elapsed_s: float) -> float:
        """The first moment after `elapsed_s` at which `is_now` may change; infinity: never."""
        edges_s = (self.from_s, self.to_s)
        begun_s = elapsed_s - fmod(elapsed_s, self.every_s) if self.every_s else 0.0
        periods_s = (begun_s, begun_s + self.every_s) if self.every_s else (0.0,)
        moments_s = [begin_s + edge_s for begin_s in periods_s for edge_s in edges_s]
        return min((moment_s for moment_s in moments_s if moment_s > elapsed_s), default=inf)


@dataclass(frozen=True, slots=True)
class LinkFault:
    """One fault. `amount`: seconds of a delay, bytes a second of a throttle, bytes before an end.

    None, for an end, means at once; that is not the same as after 0 bytes, when the upstream has been
    asked and its answer is lost.

    Raises:
        ConfigError: An amount that is missing, senseless or too much; a `refuse` for some connections only.
    """

    kind: LinkKind
    amount: float | None = None
    when: When = When()

    def __post_init__(self) -> None:
        kind, amount, when = self.kind, self.amount, self.when
        if kind in ("delay", "throttle") and (amount is None or not 0.0 < amount < inf):
            raise ConfigError(f"{kind}: an amount above 0 is wanted, as in {kind}=100")
        if kind in ENDS and amount is not None and not (amount >= 0 and amount == int(amount)):
            raise ConfigError(f"{kind}: a whole number of bytes is wanted, as in {kind}=2000")
        if kind == "refuse" and amount is not None:
            raise ConfigError("refuse: it has no amount")
        if kind == "refuse" and (when.first, when.last, when.share) != (1, None, 1.0):
            raise ConfigError("refuse: nobody is let in, so it can be given a time only; for some: reset")


@dataclass(frozen=True, slots=True)
class Fate:
    """What holds for one connection at one moment.

    `end_bytes` are the bytes from the upstream that pass before `end`; None: it comes at once.
    """

    delay_s: float = 0.0
    bytes_per_s: float = inf
    end: End | None = None
    end_bytes: int | None = None

    def also(self, fault: LinkFault) -> "Fate":
        """With one fault more: delays add up, the slowest throttle and the earliest end win."""
        amount = fault.amount
        if fault.kind == "delay":
            return replace(self, delay_s=self.delay_s + (amount or 0.0))
        if fault.kind == "throttle":
            return replace(self, bytes_per_s=min(self.bytes_per_s, amount or inf))
        if fault.kind == "refuse" or (self.end is not None and _order(self.end_bytes) <= _order(amount)):
            return self
        return replace(self, end=fault.kind, end_bytes=None if amount is None else int(amount))


def _order(end_bytes: float | None) -> float:
    return -1.0 if end_bytes is None else end_bytes


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """Every fault of a proxy, and the seed of its luck. The default does nothing wrong."""

    faults: tuple[LinkFault, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, *words: str, seed: int = 0) -> Self:
        """Faults as they are written. Raises ConfigError."""
        return cls(tuple(parse_link_fault(word) for word in words), seed)

    def fate(self, number: int, elapsed_s: float) -> Fate:
        """What holds for the connection with this number (from 1), so long after the plan began."""
        fate = Fate()
        for place, fault in enumerate(self.faults):
            chance = luck(self.seed, f"link {place}", "", number) if fault.when.share < 1.0 else 0.0
            if fault.when.is_now(elapsed_s) and fault.when.covers(number, chance):
                fate = fate.also(fault)
        return fate

    def refuses(self, elapsed_s: float) -> bool:
        """Whether nobody is to listen at this moment."""
        return any(fault.when.is_now(elapsed_s) for fault in self._refusals())

    def next_edge_s(self, elapsed_s: float) -> float:
        """When `refuses` may change next, on the same clock; infinity: never."""
        return min((fault.when.next_edge_s(elapsed_s) for fault in self._refusals()), default=inf)

    def _refusals(self) -> Sequence[LinkFault]:
        return [fault for fault in self.faults if fault.kind == "refuse"]


def parse_link_fault(text: str) -> LinkFault:
    """One fault as the module's docstring writes it. Raises ConfigError, which quotes it."""
    what, _, whens = text.replace(" ", "").partition("@")
    name, equals, amount = what.partition("=")
    kind = name.replace("-", "_")
    try:
        if kind not in LINK_KINDS:
            raise ConfigError(f"no kind {name!r}; {nearest(kind, LINK_KINDS)}")
        number = parse_number(amount, kind) if equals else None
        when = When()
        for word in whens.split(",") if whens else ():
            when = _also_when(when, word)
        return LinkFault(kind, number, when)
    except ConfigError as error:
        raise ConfigError(f"fault {text!r}: {error}") from error


def _also_when(when: When, word: str) -> When:
    if word.endswith("%"):
        return replace(when, share=parse_number(word[:-1], "share") / 100.0)
    if (found := _TIME.fullmatch(word)) is not None:
        from_s, to_s, every_s = (parse_number(part, "time") if part else 0.0 for part in found.groups())
        return replace(when, from_s=from_s, to_s=to_s if found[2] else inf, every_s=every_s)
    if (found := _CONNECTIONS.fullmatch(word)) is not None:
        first = int(found[1])
        last = int(found[3]) if found[3] else None if found[2] else first
        return replace(when, first=first, last=last)
    raise ConfigError(f"when is {word!r}? Write connections (3, 2-5, 4-), a share (10%) or a time (5s-10s)")
