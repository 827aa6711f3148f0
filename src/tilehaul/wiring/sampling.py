"""A few tiles of a job, asked for as the job would ask: what came, and how fast."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

from tilehaul.codec.safe_url import redact
from tilehaul.config.locations import Location, parse_location
from tilehaul.config.sending import Sending
from tilehaul.errors import FuseError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.event_log import log_event
from tilehaul.jobs.feed import Answer
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.stream import StreamPlan
from tilehaul.jobs.stream import stream as run_stream
from tilehaul.net.clock import SystemClock
from tilehaul.policy.estimate import Sampled
from tilehaul.policy.limit_rule import lane_most
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.events import Event, LaneChanged, LaneHeld, Progress
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.tile import FailedTile, Tile
from tilehaul.sources.reencoded import Encoding, ReencodedSource
from tilehaul.wiring.checking import check_location, check_zooms, typed_urls
from tilehaul.wiring.places import lane_class_of, open_origin, tiles_per_request, workers_for


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of a sample, of which one tile or more was answered.

    Args:
        zooms: By zoom.
        requests: Those sent, retries included.
        elapsed_s: From the first question to the last answer.
        fetch_s: Mean of the requests that ended well.
        rate_bound_per_s: Requests a second that the user or the providers allow, over all hosts asked; None:
            no bound.
        in_flight: Requests that the lanes let be under way at once in the end; 0 for an archive.
        in_flight_max: As many could be, were the source never the slower for it; 0 for an archive.
        per_request: Tiles that one request of the job brings, where it is not cut off by an edge.
    """

    zooms: Mapping[int, Sampled]
    requests: int
    elapsed_s: float
    fetch_s: float
    rate_bound_per_s: float | None
    in_flight: int
    in_flight_max: int
    per_request: int

    @property
    def answered(self) -> int:
        return sum(len(sampled.sizes_bytes) for sampled in self.zooms.values())

    @property
    def moved(self) -> int:
        """Requests that came to something: where several tiles share one, they are fewer than the tiles."""
        return min(self.answered, self.requests) if self.per_request > 1 else self.answered

    @property
    def failed(self) -> int:
        return sum(sampled.failed for sampled in self.zooms.values())


def drawn(area: Area, by_zoom: Mapping[int, int], shares: Mapping[int, int], luck: Random) -> list[TileId]:
    """`shares` of the `by_zoom` tiles of each zoom, each as likely as any other, none twice, in any order."""
    tiles = [
        tile_id
        for zoom, share in shares.items()
        for tile_id in area.ranked(zoom, sorted(luck.sample(range(by_zoom[zoom]), share)))
    ]
    luck.shuffle(tiles)
    return tiles


async def sample(
    source: str,
    tiles: Sequence[TileId],
    *,
    sending: Sending,
    encoding: Encoding | None = None,
    watch: Callable[[Event], None] | None = None,
    clock: Clock | None = None,
) -> Sample:
    """Ask a location for these tiles, one or more, through the lane and with the retries that a job has.

    `watch` is told, in the loop's thread, of each answer (Progress) and of what the lanes tell.

    Raises:
        PlanError, ConfigError, DataError: As `seed`; a provider that forbids bulk download is asked nothing.
        FuseError: No tile was answered.
    """
    await check_location(source, sending)
    place = parse_location(source)
    time = clock or SystemClock()
    tally = Tally()
    gathered = _Gathered(time, tally, len(tiles))
    lanes: list[LaneSnapshot] = []

    def tell(event: LaneHeld | LaneChanged) -> None:
        log_event(event)
        if watch is not None:
            watch(event)

    @asynccontextmanager
    async def opening() -> AsyncIterator[Origin]:
        async with open_origin(source, sending=sending, tally=tally, tell=tell) as opened:
            check_zooms(opened.source.info, {tile_id.z for tile_id in tiles})
            origin = opened
            if encoding is not None:
                origin = replace(opened, source=ReencodedSource(opened.source, encoding))
            gathered.begin()
            yield origin
            lanes.extend(origin.lanes())

    plan = StreamPlan(workers=workers_for(place, sending), max_wait_s=sending.max_wait_s)
    try:
        async with aclosing(run_stream(opening(), tiles, plan, tally=tally, clock=time)) as answers:
            async for answer in answers:
                gathered.add(answer)
                if watch is not None:
                    watch(gathered.progress())
    except FuseError as error:
        raise FuseError(f"the sample was given up: {redact(place.text)}: {error}") from error
    if not gathered.sizes:
        failed = gathered.failed.total()
        raise FuseError(f"no tile of the sample came, {failed} failed, the first because {gathered.cause}")
    return Sample(
        zooms=gathered.zooms(),
        requests=tally.requests,
        elapsed_s=gathered.elapsed_s,
        fetch_s=tally.fetches.mean_s(),
        rate_bound_per_s=_bound(lanes),
        in_flight=sum(lane.limit for lane in lanes),
        in_flight_max=len(lanes) * _most_in_a_lane(place, sending),
        per_request=tiles_per_request(place),
    )


class _Gathered:
    """What has come so far; `elapsed_s` from `begin` to the last answer, `cause` of the first failure."""

    def __init__(self, clock: Clock, tally: Tally, planned: int) -> None:
        self.sizes: defaultdict[int, list[int]] = defaultdict(list)
        self.absent: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()
        self.cause = ""
        self.elapsed_s = 0.0
        self._clock = clock
        self._tally = tally
        self._planned = planned
        self._begun_s = 0.0
        self._bytes = 0

    def begin(self) -> None:
        self._begun_s = self._clock.now_s()

    def add(self, answer: Answer) -> None:
        self.elapsed_s = self._clock.now_s() - self._begun_s
        zoom = answer.tile_id.z
        if isinstance(answer, FailedTile):
            self.failed[zoom] += 1
            self.cause = self.cause or str(answer.error)
            return
        size = len(answer.body) if isinstance(answer, Tile) else 0
        self.absent[zoom] += not isinstance(answer, Tile)
        self.sizes[zoom].append(size)
        self._bytes += size

    def progress(self) -> Progress:
        absent, dead = self.absent.total(), self.failed.total()
        answered = sum(map(len, self.sizes.values()))
        return Progress(
            done=answered - absent,
            absent=absent,
            dead=dead,
            skipped=0,
            retried=self._tally.retried,
            pushed_back=self._tally.pushed_back,
            planned=self._planned,
            bytes=self._bytes,
            elapsed_s=self.elapsed_s,
            rate_per_s=answered / self.elapsed_s if self.elapsed_s else 0.0,
        )

    def zooms(self) -> dict[int, Sampled]:
        return {
            zoom: Sampled(tuple(self.sizes.get(zoom, ())), self.absent[zoom], self.failed[zoom])
            for zoom in sorted({*self.sizes, *self.failed})
        }


def _most_in_a_lane(place: Location, sending: Sending) -> int:
    """What user and providers allow to be under way at once to one host."""
    terms = [sending.rules().of(url) for url in typed_urls(place)]
    allowed = [one.in_flight_max for one in terms if one is not None and one.in_flight_max is not None]
    most = lane_most(lane_class_of(place), cap=sending.concurrency, adaptive=sending.adaptive)
    return min([most, *allowed])


def _bound(lanes: Iterable[LaneSnapshot]) -> float | None:
    """What the lanes allow together; None when one of them has no bound, or there is none."""
    bounds = [lane.rate_per_s for lane in lanes]
    known = [bound for bound in bounds if bound is not None]
    return sum(known) if known and len(known) == len(bounds) else None
