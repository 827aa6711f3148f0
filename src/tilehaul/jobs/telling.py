"""Small makers of a job's events."""

from dataclasses import replace
from typing import Protocol

from tilehaul.jobs.score import Score
from tilehaul.policy.causes import class_of
from tilehaul.ports.events import Event, TileDead, Watch
from tilehaul.ports.store import DeadLetter


def signed(watch: Watch, job_id: str) -> Watch:
    """The same watch; every event it gets names the job."""

    def tell(event: Event) -> None:
        watch(replace(event, job_id=job_id))

    return tell


def death_of(letter: DeadLetter) -> TileDead:
    """A dead letter as it is told; to be told when it is durable."""
    return TileDead(
        tile_id=letter.tile_id,
        cause=letter.cause,
        cause_class=class_of(letter.cause),
        attempts=letter.attempts,
        url=letter.url,
        message=letter.message,
    )


class Deadline(Protocol):
    """Of a plan: its deadline in seconds, and whether it moves again what is there."""

    @property
    def deadline_s(self) -> float | None: ...

    @property
    def overwrite(self) -> bool: ...


def late_message(plan: Deadline, score: Score) -> str:
    """Says that the deadline has ended the job, and how to go on."""
    again = "begins anew, for it overwrites" if plan.overwrite else "goes on"
    return (
        f"the deadline of {plan.deadline_s:g} s has come: {score.pending:,} of {score.planned:,} tiles are"
        f" pending; the same again {again}"
    )


def changed_words(score: Score) -> str:
    """Says that what was planned is not what there was."""
    there = score.planned - score.pending
    return f"changed meanwhile: of {score.planned:,} tiles that it had, {there:,} came; run the same again"
