"""Faults as people write them: on the command line and in a script's YAML. One parser for both."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, cast

from tilehaul.errors import ConfigError
from tilehaul.lab.faults import (
    DISTRIBUTIONS,
    KINDS,
    Bursts,
    Capacity,
    Faults,
    Kind,
    Latency,
    RateLimit,
    RetryAfter,
    SlowBody,
)

TRUNCATIONS: Final[tuple[Kind, ...]] = ("short_length", "cut_chunked", "cut_close", "cut_gzip", "bit_flip")


@dataclass(frozen=True, slots=True)
class FaultChange:
    """The fields of `Faults` that were written down; None stands for "as it was".

    `shares` and `errors` are merged into what was there, the others replace it.
    """

    latency: Latency | None = None
    errors: Mapping[int, float] | None = None
    shares: Mapping[Kind, float] | None = None
    retry_after: RetryAfter | None = None
    rate_limit: RateLimit | None = None
    burst_429: Bursts | None = None
    capacity: Capacity | None = None
    slow_body: SlowBody | None = None

    def on(self, base: Faults) -> Faults:
        """`base` with the change. Raises ConfigError when the shares then add up to more than 1."""
        changed = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        if self.errors is not None:
            changed["errors"] = {**base.errors, **self.errors}
        if self.shares is not None:
            changed["shares"] = {**base.shares, **self.shares}
        return replace(base, **changed)


_FIELDS: Final = tuple(field.name for field in fields(FaultChange))


def parse_number(value: object, key: str) -> float:
    """A finite number, from a number or a text. Raises ConfigError naming the key."""
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{key}: a number is wanted, not {value!r}")
    return number


def _whole(value: object, key: str) -> int:
    number = parse_number(value, key)
    if number != int(number):
        raise ConfigError(f"{key}: a whole number is wanted, not {value!r}")
    return int(number)


def _pair(value: object, key: str, form: str) -> tuple[str, str]:
    left, colon, right = str(value).partition(":")
    if not colon or not left.strip() or not right.strip():
        raise ConfigError(f"{key}: {form} is wanted, not {value!r}")
    return left.strip(), right.strip()


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at the known word closest to a wrong one, or the whole list."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _pairs(value: object, key: str, form: str) -> list[tuple[str, object]]:
    """Pairs, from a text like a:1,b:2, a list of a:1 and b:2, or a mapping."""
    if isinstance(value, Mapping):
        return [(str(name), share) for name, share in value.items()]
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    return [_pair(item, key, form) for item in items]


def parse_errors(value: object) -> dict[int, float]:
    """Shares by status, from a text like 500:0.02,503:0.03 or a mapping. Raises ConfigError."""
    pairs = _pairs(value, "errors", "STATUS:SHARE,...")
    return {_whole(status, "errors"): parse_number(share, "errors") for status, share in pairs}


def parse_shares(value: object, key: str, known: Sequence[Kind]) -> dict[Kind, float]:
    """Fault kinds with their shares. Raises ConfigError naming the nearest kind."""
    shares: dict[Kind, float] = {}
    for name, share in _pairs(value, key, "KIND:SHARE"):
        kind = name.replace("-", "_")
        if kind not in known:
            raise ConfigError(f"{key}: no kind {name!r}; {nearest(kind, known)}")
        shares[cast("Kind", kind)] = parse_number(share, key)
    return shares


def parse_retry_after(value: object) -> RetryAfter:
    """`2`, `date:2`, `garbage`, `none` (no header) or `raw:ANY TEXT`. Raises ConfigError."""
    text = str(value)
    form, colon, rest = text.partition(":")
    if text == "none":
        return RetryAfter("raw")
    if text == "garbage":
        return RetryAfter("raw", text="soon, probably")
    if colon and form == "raw":
        return RetryAfter("raw", text=rest)
    if colon and form == "date":
        return RetryAfter("date", parse_number(rest, "retry_after"))
    return RetryAfter("seconds", parse_number(value, "retry_after"))


def _parse_bursts(value: object) -> Bursts:
    every, lasting = _pair(value, "burst_429", "EVERY:FOR in seconds")
    return Bursts(parse_number(every, "burst_429"), parse_number(lasting, "burst_429"))


def _parse_capacity(value: object) -> Capacity:
    parts = str(value).split(":")
    if len(parts) not in (2, 3):
        raise ConfigError(f"capacity: SERVERS:SERVICE_MS[:QUEUE_MAX] is wanted, not {value!r}")
    servers, service_ms = _whole(parts[0], "capacity"), parse_number(parts[1], "capacity")
    if len(parts) == 2:
        return Capacity(servers, service_ms)
    return Capacity(servers, service_ms, _whole(parts[2], "capacity"))


def _parse_slow_body(value: object) -> SlowBody:
    text = str(value)
    if ":" not in text:
        return SlowBody(parse_number(value, "slow_body"))
    speed, share = _pair(text, "slow_body", "BYTES_PER_S[:SHARE]")
    return SlowBody(parse_number(speed, "slow_body"), parse_number(share, "slow_body"))


def _parse_reset(value: object) -> dict[Kind, float]:
    if ":" not in str(value):
        return {"reset_mid": parse_number(value, "reset")}
    place, share = _pair(value, "reset", "SHARE, mid:SHARE or before:SHARE")
    if place not in ("mid", "before"):
        raise ConfigError(f"reset: SHARE, mid:SHARE or before:SHARE is wanted, not {value!r}")
    kind: Kind = "reset_mid" if place == "mid" else "reset_before"
    return {kind: parse_number(share, "reset")}


def _parse_latency(words: Mapping[str, object]) -> Latency:
    jitter_ms = parse_number(words.get("jitter_ms", 0), "jitter_ms")
    # Somebody who asks for jitter and names no distribution means the usual one.
    name = str(words.get("latency_distribution", "normal" if jitter_ms else "fixed")).replace("-", "_")
    if name not in DISTRIBUTIONS:
        raise ConfigError(f"latency_distribution: no {name!r}; {nearest(name, DISTRIBUTIONS)}")
    return Latency(parse_number(words.get("latency_ms", 0), "latency_ms"), jitter_ms, name)


_ONE_SHARE: Final[dict[str, Kind]] = {
    "xml_200": "xml_200",
    "xml_as_png": "xml_as_png",
    "html_200": "html_200",
    "empty": "empty_200",
    "black_hole": "black_hole",
}
_LATENCY: Final = ("latency_ms", "jitter_ms", "latency_distribution")
_SINGLE: Final[dict[str, tuple[str, Callable[[object], Any]]]] = {
    "errors": ("errors", parse_errors),
    "retry_after": ("retry_after", parse_retry_after),
    "burst_429": ("burst_429", _parse_bursts),
    "capacity": ("capacity", _parse_capacity),
    "slow_body": ("slow_body", _parse_slow_body),
}
FAULT_KEYS: Final = (
    *_LATENCY,
    *_SINGLE,
    "rate_limit",
    "burst",
    "truncate",
    "faults",
    "reset",
    *_ONE_SHARE,
)


def parse_fault_change(words: Mapping[str, object]) -> FaultChange:
    """Words (keys of FAULT_KEYS) as a change of the faults.

    Raises:
        ConfigError: An unknown key (names the nearest known one) or a value that means nothing.
    """
    for key in words:
        if key not in FAULT_KEYS:
            raise ConfigError(f"no fault setting {key!r}; {nearest(str(key), FAULT_KEYS)}")
    found: dict[str, Any] = {}
    if any(key in words for key in _LATENCY):
        found["latency"] = _parse_latency(words)
    for key, (field, parse) in _SINGLE.items():
        if key in words:
            found[field] = parse(words[key])
    if "rate_limit" in words:
        burst = _whole(words.get("burst", 1), "burst")
        found["rate_limit"] = RateLimit(parse_number(words["rate_limit"], "rate_limit"), burst)
    elif "burst" in words:
        raise ConfigError("burst: means nothing without rate_limit")
    shares: dict[Kind, float] = {}
    if "truncate" in words:
        shares |= parse_shares(words["truncate"], "truncate", TRUNCATIONS)
    if "faults" in words:
        shares |= parse_shares(words["faults"], "faults", KINDS)
    if "reset" in words:
        shares |= _parse_reset(words["reset"])
    for key, kind in _ONE_SHARE.items():
        if key in words:
            shares[kind] = parse_number(words[key], key)
    if shares:
        found["shares"] = shares
    change = FaultChange(**found)
    # The shares of one change alone must make sense; together with others they are checked later.
    change.on(Faults())
    return change
