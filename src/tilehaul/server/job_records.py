"""A job and its events as JSON values for clients.

As in every answer of the service, neither the origin's host nor a path is told: the source is the layer, the
store its plain name, lanes are numbered. What an error says itself is in the log.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tilehaul.errors import BusyError, FuseError, PlanError, TilehaulError
from tilehaul.jobs.followed import Ended, RunningJob
from tilehaul.policy.health import judge_health
from tilehaul.ports.events import (
    Event,
    JobStarted,
    LaneChanged,
    LaneHeld,
    SeedReport,
    TileDead,
    record_of,
)
from tilehaul.server.statuses import cause_of, message_of

_ENDS = {
    "complete": "every tile has an answer",
    "dead_letters": "some tiles have failed for good; start the job again to try them again",
    "interrupted": "ended early, in good order; start the job again to go on",
    "stopped": "too much failed, or the origin is away; the service's log says more. Start it again to go on",
}
# Types of events of a stream that are an answer to "how did it end".
_GOOD_ENDS = frozenset({"complete", "dead_letters", "interrupted"})


def jobs_figures(jobs: Iterable[RunningJob], *, key: bool) -> dict[str, Any]:
    """What everybody may know of the jobs: how many have not ended, and whether a key is wanted for more."""
    return {"running": sum(job.ended is None for job in jobs), "key": key}


def job_json(job: RunningJob) -> dict[str, Any]:
    """The job as `/api/jobs/ID` tells it; what is not known yet, or is none, is null."""
    return {
        "id": job.job_id,
        "state": job.state,
        "source": job.layer,
        "store": job.store,
        "planned": job.planned,
        "progress": None if job.progress is None else record_of(job.progress),
        "report": None if job.report is None else _plain(job, job.report),
        "error": None if job.ended is None else _error_json(job.ended),
        "last_event": job.last_number,
        "events": f"/api/jobs/{job.job_id}/events",
    }


def sse_text(job: RunningJob, number: int, event: "Event | Ended") -> str:
    """One event of the stream, in the form of text/event-stream. JSON has no line ends."""
    if isinstance(event, Ended):
        kind = "complete" if event.state in _GOOD_ENDS else "error"
        told = {
            "state": event.state,
            "message": end_message(event),
            "report": None if event.report is None else _plain(job, event.report),
            "error": _error_json(event),
        }
    else:
        kind, told = "status", _plain(job, event)
    data = json.dumps({"type": kind, **told}, separators=(",", ":"))
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n"


def end_message(ended: Ended) -> str:
    """How a job ended, for people, in one line."""
    told = _ENDS.get(ended.state)
    if told is not None:
        return told
    error = ended.error
    if isinstance(error, TilehaulError) and not isinstance(error, (PlanError, FuseError, BusyError)):
        return message_of(error)
    return "the job could not be done; the service's log says why"


def _error_json(ended: Ended) -> dict[str, str] | None:
    if ended.error is None:
        return None
    cause = cause_of(ended.error) if isinstance(ended.error, TilehaulError) else "internal"
    return {"cause": cause, "message": end_message(ended)}


def _plain(job: RunningJob, event: Event) -> dict[str, Any]:
    """A record of the event that names no host, path or address."""
    if isinstance(event, JobStarted):
        return record_of(replace(event, source=job.layer, store=job.store))
    if isinstance(event, LaneHeld | LaneChanged):
        return record_of(replace(event, lane=_lane(job, event.lane)))
    if isinstance(event, TileDead):
        return record_of(_nameless(event))
    if isinstance(event, SeedReport):
        lanes = tuple(replace(lane, name=_lane(job, lane.name)) for lane in event.lanes)
        return record_of(
            replace(
                event,
                source=job.layer,
                store=job.store,
                message="",
                lanes=lanes,
                health=judge_health(lanes),
                first_dead=tuple(map(_nameless, event.first_dead)),
            )
        )
    return record_of(event)


def _nameless(event: TileDead) -> TileDead:
    """Its message may quote the origin."""
    return replace(event, url="", message="")


def _lane(job: RunningJob, name: str) -> str:
    return f"{job.layer} {job.lane_numbers[name]}"
