"""What the soak of the service calls right. Pure: answers and samples in, words out."""

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

# Statuses with which the service may say that its origin fails, or is asked for too much; never 500.
HONEST = {502: "origin failed", 503: "busy", 504: "origin timed out"}
# After an outage its breaker may be open for 8 s more, and who came before it has yet to be answered.
OUTAGE_TAIL_S = 15.0
# Of all answers outside outages: three attempts at an origin of which a twentieth of the answers fail.
UNEXPLAINED_SHARE_MAX = 0.005
# Flat: the median of the last fifth is no more than that of the third fifth and this.
GROWTH_SHARE, GROWTH_MB = 0.05, 4.0
GROWTH_FILES, GROWTH_THREADS = 8.0, 2.0
# Fewer samples have no fifths worth a median.
SAMPLES_MIN = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """The service's processes at one moment: resident memory, open descriptors, threads."""

    at_s: float
    rss_mb: float
    files: float
    threads: float


def growth(samples: Sequence[Sample]) -> list[str]:
    """What has grown in the second half, in words; nothing when all is flat."""
    if len(samples) < SAMPLES_MIN:
        return [f"only {len(samples)} samples: a longer run is needed to judge growth"]
    fifth = len(samples) // 5
    third, last = samples[2 * fifth : 3 * fifth], samples[-fifth:]
    found = []
    for name, value, share, more in (
        ("memory, MB", lambda one: one.rss_mb, GROWTH_SHARE, GROWTH_MB),
        ("descriptors", lambda one: one.files, 0.0, GROWTH_FILES),
        ("threads", lambda one: one.threads, 0.0, GROWTH_THREADS),
    ):
        was = statistics.median(map(value, third))
        now = statistics.median(map(value, last))
        if now > was * (1.0 + share) + more:
            found.append(f"{name} grew from {was:.0f} to {now:.0f}")
    return found


@dataclass(frozen=True, slots=True)
class Outages:
    """When the origin answers little but errors: first at `first_s`, then every `every_s`, for `for_s`."""

    first_s: float
    every_s: float
    for_s: float

    def explain(self, asked_s: float, answered_s: float) -> bool:
        """Whether a failure between these two moments may be an outage's doing."""
        if answered_s < self.first_s:
            return False
        begun_s = self.first_s + self.every_s * ((answered_s - self.first_s) // self.every_s)
        return asked_s <= begun_s + self.for_s + OUTAGE_TAIL_S


@dataclass(slots=True)
class Verdicts:
    """Judges answers as they come, and counts them.

    Args:
        truth: A tile's address -> its bytes at the origin; None: there is no such tile.
        outages: When the origin fails.
    """

    truth: Callable[[str], bytes | None]
    outages: Outages
    answers: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    unexplained: int = 0

    def tile(
        self, address: str, status: int, body: bytes, *, asked_s: float, now_s: float, etag_known: bool
    ) -> None:
        """One answer to `z/x/y`. `etag_known`: If-None-Match was sent, with the tag of its right bytes."""
        self.answers[str(status)] += 1
        truth = self.truth(address)
        if status == 200:
            if truth is None:
                self.wrong["a tile the origin does not have"] += 1
            elif body != truth:
                self.wrong["not the origin's bytes"] += 1
        elif status == 304:
            if not etag_known or truth is None:
                self.wrong["304 to who knew nothing"] += 1
        elif status == 404:
            if truth is not None:
                self.wrong["404 for a tile the origin has"] += 1
        elif status in HONEST:
            self._failed(_told(body), asked_s=asked_s, now_s=now_s)
        else:
            self.wrong[f"status {status}"] += 1

    def item(self, address: str, error: object, *, asked_s: float, now_s: float) -> None:
        """An error entry of a batch; what it has bytes of is judged by `tile`."""
        status = error.get("status") if isinstance(error, dict) else None
        if status == 404:
            self.tile(address, 404, b"", asked_s=asked_s, now_s=now_s, etag_known=False)
        elif status in HONEST:
            self.answers[f"batch {status}"] += 1
            self._failed(bool(error.get("cause")), asked_s=asked_s, now_s=now_s)
        else:
            self.wrong[f"a batch's error {error!r}"] += 1

    def lost(self, what: str) -> None:
        """A connection that ended before its answer, or an answer that did not come."""
        self.wrong[f"no answer: {what}"] += 1

    def failures(self) -> list[str]:
        """What is wrong, in words."""
        found = [f"{count:,} x {what}" for what, count in sorted(self.wrong.items())]
        most = UNEXPLAINED_SHARE_MAX * sum(self.answers.values())
        if self.unexplained > most:
            found.append(f"{self.unexplained:,} errors outside outages, at most {most:.0f} are explained")
        return found

    def _failed(self, told: bool, *, asked_s: float, now_s: float) -> None:  # noqa: FBT001 - the answer's own
        if not told:
            self.wrong["an error that does not say why"] += 1
        self.unexplained += not self.outages.explain(asked_s, now_s)


def _told(body: bytes) -> bool:
    """Whether an error's body is what `contracts` promises."""
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("success") is False and bool(told.get("cause"))
