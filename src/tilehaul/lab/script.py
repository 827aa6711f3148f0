"""A timeline of faults: what is wrong from when to when, written in YAML."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tilehaul.errors import ConfigError
from tilehaul.lab.fault_words import FAULT_KEYS, FaultChange, nearest, parse_fault_change, parse_number
from tilehaul.lab.faults import Faults

SCRIPT_BYTES_MAX: Final = 1024 * 1024
STEPS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """A change that holds from `at_s` until before `stop_s` (infinity: for ever), since the start."""

    at_s: float
    stop_s: float
    change: FaultChange


@dataclass(frozen=True, slots=True)
class Script:
    """Steps in the order they were written. Where they overlap, the later one wins setting by setting."""

    steps: tuple[Step, ...] = ()

    def faults_at(self, base: Faults, elapsed_s: float) -> Faults:
        """The faults at a moment: `base` with every step that holds. Raises ConfigError on a bad sum."""
        faults = base
        for step in self.steps:
            if step.at_s <= elapsed_s < step.stop_s:
                faults = step.change.on(faults)
        return faults

    def edges_s(self) -> tuple[float, ...]:
        """The moments at which something changes, ascending, the first is 0."""
        moments = {0.0} | {step.at_s for step in self.steps} | {step.stop_s for step in self.steps}
        return tuple(sorted(moments - {float("inf")}))


class Timeline:
    """A script worked out for one base: constant faults between two edges.

    Raises:
        ConfigError: At some moment the shares add up to more than 1; the message says when.
    """

    __slots__ = ("_edges_s", "_faults")

    def __init__(self, script: Script, base: Faults) -> None:
        self._edges_s = script.edges_s()
        self._faults: list[Faults] = []
        for edge_s in self._edges_s:
            try:
                self._faults.append(script.faults_at(base, edge_s))
            except ConfigError as error:
                raise ConfigError(f"script, at {edge_s:g} s: {error}") from error

    def part(self, elapsed_s: float) -> int:
        """Which part of the timeline a moment is in, from 0; `elapsed_s` >= 0."""
        return max(bisect_right(self._edges_s, elapsed_s) - 1, 0)

    def faults(self, part: int) -> Faults:
        return self._faults[part]


def _parse_step(number: int, raw: object) -> Step:
    where = f"script, step {number}"
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: a mapping with `at` and fault settings is wanted, not {raw!r}")
    words: dict[str, Any] = {str(key): value for key, value in raw.items()}
    try:
        if "at" not in words:
            raise ConfigError("`at` (seconds since the start) is missing")
        at_s = parse_number(words.pop("at"), "at")
        for_s = parse_number(words.pop("for"), "for") if "for" in words else float("inf")
        if at_s < 0 or for_s <= 0:
            raise ConfigError("`at` must be 0 or more and `for` more than 0 seconds")
        if not words:
            raise ConfigError(f"it changes nothing; settings are {', '.join(FAULT_KEYS)}")
        for key in words:
            if key not in FAULT_KEYS:
                raise ConfigError(f"no setting {key!r}; {nearest(key, ('at', 'for', *FAULT_KEYS))}")
        return Step(at_s, at_s + for_s, parse_fault_change(words))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def parse_script(text: str) -> Script:
    """A YAML list of steps `{at: seconds, for: seconds, ...settings}`; without `for`: to the end.

    Settings are FAULT_KEYS, written as on the command line, or lists and mappings where those repeat.

    Raises:
        ConfigError: Not YAML, not a list of such steps, over STEPS_MAX; names the step and the key.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"script: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, list) or not raw:
        raise ConfigError("script: a list of steps like `- {at: 10, for: 5, errors: '503:1'}` is wanted")
    if len(raw) > STEPS_MAX:
        raise ConfigError(f"script: {len(raw)} steps, {STEPS_MAX} at most")
    return Script(tuple(_parse_step(number, step) for number, step in enumerate(raw, 1)))


def read_script(path: Path) -> Script:
    """`parse_script` of a file. Raises ConfigError, also when the file cannot be read."""
    try:
        if path.stat().st_size > SCRIPT_BYTES_MAX:
            raise ConfigError(f"script {path}: larger than {SCRIPT_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"script {path}: cannot be read: {error}") from error
    try:
        return parse_script(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
