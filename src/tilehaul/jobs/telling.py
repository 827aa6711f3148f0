"""Small makers of a job's events."""

from dataclasses import replace

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
