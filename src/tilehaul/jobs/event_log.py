"""The log as a reader of the stream of events."""

import logging
from typing import assert_never

from tilehaul.ports.events import (
    Event,
    JobStarted,
    LaneChanged,
    LaneHeld,
    Progress,
    SeedReport,
    TileDead,
    record_of,
)

log = logging.getLogger(__name__)


def log_event(event: Event) -> None:
    """One line of the log for an event; its fields are in the record's `facts`.

    Above debug no tile is named, but in what a report says of a job's end.
    """
    _log(event, logging.INFO if isinstance(event, JobStarted | LaneHeld | SeedReport) else logging.DEBUG)


def log_service_event(event: LaneHeld | LaneChanged) -> None:
    """As `log_event`; a lane in trouble is a warning, for in a service there is no job that tells of it."""
    if isinstance(event, LaneHeld) and event.reason:
        _log(event, logging.WARNING)
    else:
        log_event(event)


def _log(event: Event, level: int) -> None:
    if log.isEnabledFor(level):
        log.log(level, "%s", _words(event), extra={"facts": record_of(event)})


def _words(event: Event) -> str:
    match event:
        case JobStarted():
            note = f" ({event.note})" if event.note else ""
            return f"{event.job} begins: {event.planned} tiles from {event.source}{note} to {event.store}"
        case Progress():
            ended = event.done + event.absent + event.dead
            return f"{ended} of {event.planned} tiles, {event.rate_per_s:.0f}/s"
        case LaneHeld():
            why = f": {event.reason}" if event.reason else ""
            return f"lane {event.lane} held for {event.delay_s:.1f} s{why}"
        case LaneChanged():
            pace = "" if event.pace_per_s is None else f", pace {event.pace_per_s:.2f}/s"
            return f"lane {event.lane}: limit {event.limit}, gate {event.gate}, breaker {event.breaker}{pace}"
        case TileDead():
            return f"tile {event.tile_id} is dead after {event.attempts} attempts: {event.message}"
        case SeedReport():
            return (
                f"{event.state}: {event.done} done, {event.absent} absent, {event.dead} dead,"
                f" {event.pending} pending in {event.elapsed_s:.1f} s {event.message}"
            ).rstrip()
    assert_never(event)
