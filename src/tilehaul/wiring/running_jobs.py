"""The jobs of a service: started by its clients, each with one stream of events that many may follow."""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tilehaul.config.job_request import JobRequest, area_of, failures_of, store_of
from tilehaul.config.locations import NEAR_KINDS, parse_location
from tilehaul.config.providers import with_providers
from tilehaul.config.reading import Place
from tilehaul.config.sending import Sending
from tilehaul.config.settings import JobsSettings, LayerSettings, Settings
from tilehaul.errors import BusyError, ConfigError, FuseError, PlanError, TilehaulError
from tilehaul.grid.area import Area
from tilehaul.jobs.followed import RunningJob, State, moved_by
from tilehaul.jobs.stop import CANCEL, DRAIN
from tilehaul.ports.events import Event
from tilehaul.ports.lane import Lanes
from tilehaul.wiring.checking import check_location, check_places
from tilehaul.wiring.seeding import JOB_ID_BYTES, SeedOptions, seed

log = logging.getLogger(__name__)

# Ended jobs that can still be asked about.
ENDED_MAX = 100
# What is under way when the service stops has this long to end before it is cancelled: as with Ctrl-C.
DRAIN_JOBS_S = 30.0
# Told to a client when as many jobs run as may.
RETRY_AFTER_S = 30.0


Number = TypeVar("Number", int, float)


class StoreInUseError(PlanError):
    """Another job of the service writes into the store."""


class RunningJobs:
    """Starts, remembers and ends the jobs of one service, inside the running loop.

    Args:
        settings: With a part `jobs`.

    Raises:
        ConfigError: There is no such part, the service could be reached from elsewhere without a key, or the
            folder cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._jobs_settings = checked_jobs(settings)
        self._settings = settings
        self._providers = with_providers(settings.providers, Place("providers"))
        self._folder = Path(self._jobs_settings.folder).resolve()
        self._jobs: dict[str, RunningJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False
        # Of jobs that have ended, by layer and state; bytes and retries by layer.
        self.ended: Counter[tuple[str, str]] = Counter()
        self.moved: Counter[tuple[str, str]] = Counter()

    @property
    def key(self) -> str:
        return self._jobs_settings.key

    @property
    def jobs(self) -> Mapping[str, RunningJob]:
        """By name, in the order they were started."""
        return self._jobs

    def renew(self, settings: Settings) -> None:
        """Jobs that begin from now on are of these settings, whose part `jobs` is as before."""
        self._settings = settings
        self._providers = with_providers(settings.providers, Place("providers"))

    async def start(self, request: JobRequest, seen: Container[str] | None = None) -> RunningJob:
        """Begin a seed; one into a store that is not complete goes on.

        Args:
            seen: Layers the client may know of; None: all. Others do not exist for it.

        Raises:
            PlanError: The request cannot become a job; nothing was begun.
            StoreInUseError: Another job writes into that store.
            BusyError: As many jobs run as may, or the service stops.
        """
        layer = self._settings.layers.get(request.source)
        if layer is None or (seen is not None and request.source not in seen):
            raise PlanError("source: there is no such layer; /api/layers lists those there are")
        store = store_of(request.store, self._folder)
        area = area_of(request, self._jobs_settings.tiles_max)
        _check_within(area, layer)
        source = _location_of(layer)
        options = self._options(request, layer, near=parse_location(source).kind in NEAR_KINDS)
        try:
            check_places(source, str(store), options.sending)
            await check_location(source, options.sending)
        except (PlanError, ConfigError) as error:
            # Its text names the origin, or a path.
            log.warning("layer %s cannot be seeded: %s", request.source, error)
            raise PlanError(
                "this layer cannot be seeded into this store: its provider forbids bulk download or wants a"
                " contact, or both are one place; the service's log says which"
            ) from error
        # From here on nothing is awaited: two requests at once cannot both take the last place.
        self._check_room(request.store)
        job = RunningJob(options.job_id, request.source, request.store)
        self._jobs[job.job_id] = job
        self._forget()
        self._tasks[job.job_id] = asyncio.create_task(self._run(job, source, store, area, options))
        return job

    async def aclose(self, patience_s: float = DRAIN_JOBS_S) -> None:
        """End all jobs in good order, those that take longer at once; none is begun any more. Safe twice."""
        self._closing = True
        for level in (DRAIN, CANCEL):
            for name in self._tasks:
                self._jobs[name].stop.drain() if level == DRAIN else self._jobs[name].stop.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks.values()), timeout=patience_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check_room(self, store: str) -> None:
        if self._closing:
            raise BusyError("the service stops", retry_after_s=RETRY_AFTER_S)
        running = [self._jobs[name] for name in self._tasks]
        # Some file systems know no capital letters.
        if any(job.store.lower() == store.lower() for job in running):
            raise StoreInUseError("store: a job writes into it now; follow or end that one")
        if len(running) >= self._jobs_settings.running_max:
            raise BusyError(
                f"{len(running)} jobs run already (jobs.running_max)", retry_after_s=RETRY_AFTER_S
            )

    def _options(self, request: JobRequest, layer: LayerSettings, *, near: bool) -> SeedOptions:
        """The layer's own settings are the bounds of what a client may ask for.

        `near`: its tiles are here, and its rate is nobody's; one that a client asks for is refused as such.
        """
        sending = Sending(
            concurrency=_least(request.concurrency, layer.concurrency),
            timeout_s=layer.timeout,
            retries=request.retries,
            contact=self._settings.contact,
            headers=tuple(layer.headers.items()),
            allow_private=tuple(self._settings.allow_private),
            providers=self._providers,
            rate_limit=request.rate_limit if near else _least(request.rate_limit, layer.rate_limit),
        )
        return SeedOptions(
            sending=sending,
            overwrite=request.overwrite,
            max_failures=failures_of(request.max_failures),
            deadline_s=request.deadline,
            job_id=secrets.token_hex(JOB_ID_BYTES),
        )

    async def _run(self, job: RunningJob, source: str, store: Path, area: Area, options: SeedOptions) -> None:
        loop = asyncio.get_running_loop()

        def watch(event: Event) -> None:
            # In the thread that reads the job's mailbox; it is never slow, so nothing is lost before here.
            loop.call_soon_threadsafe(job.put, event)

        def show(lanes: Lanes) -> None:
            job.lanes = lanes

        options = replace(options, on_lanes=show)
        try:
            report = await seed(source, str(store), area, options=options, watch=watch, stop=job.stop)
            if job.report is None:
                # Whoever carries events has a time limit; the call's own answer has none.
                job.put(report)
            job.end(_STATES[report.state])
        except FuseError as error:
            job.end("stopped", error)
        except TilehaulError as error:
            log.warning("job %s failed: %s", job.job_id, error)
            job.end("failed", error)
        except Exception as error:
            # A defect of ours: the service goes on, and whoever follows the job is told.
            log.exception("job %s failed", job.job_id)
            job.end("failed", error)
        except asyncio.CancelledError as error:
            job.end("interrupted", error)
            raise
        finally:
            del self._tasks[job.job_id]
            job.lanes = tuple
            self._count(job)

    def _count(self, job: RunningJob) -> None:
        self.ended[job.layer, job.state] += 1
        for name, value in moved_by(job).items():
            self.moved[job.layer, name] += value

    def _forget(self) -> None:
        ended = [name for name in self._jobs if name not in self._tasks]
        # The one just begun has no task yet, and is the last.
        for name in ended[: max(0, len(ended) - 1 - ENDED_MAX)]:
            del self._jobs[name]


_STATES: Mapping[str, State] = {
    "complete": "complete",
    "dead_letters": "dead_letters",
    "interrupted": "interrupted",
    "stopped": "stopped",
}


def checked_jobs(settings: Settings) -> JobsSettings:
    """The part `jobs`, its folder made. Raises ConfigError as `RunningJobs`."""
    jobs = settings.jobs
    if jobs is None:
        raise ConfigError("jobs: the configuration has no such part")
    if not jobs.key and not is_loopback(settings.server.host):
        raise ConfigError(
            f"jobs.key: whoever reaches {settings.server.host} could start jobs:"
            " set a key, or listen on 127.0.0.1"
        )
    if jobs.key and not (jobs.key.isascii() and jobs.key.isprintable() and " " not in jobs.key):
        raise ConfigError("jobs.key: use printable ASCII without blanks, for it is sent in a header")
    try:
        Path(jobs.folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"jobs.folder: {jobs.folder} cannot be used: {error.strerror}") from error
    return jobs


def may_change(settings: Settings) -> bool:
    """Whether anybody may change the service while it runs: with a key, or from this machine alone."""
    return bool(settings.server.admin_key) or is_loopback(settings.server.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _least(asked: Number | None, bound: Number | None) -> Number | None:
    told = [one for one in (asked, bound) if one is not None]
    return min(told) if told else None


def _location_of(layer: LayerSettings) -> str:
    if isinstance(layer.source, str):
        return layer.source
    if len(layer.source) == 1:
        return layer.source[0]
    raise PlanError("source: this layer has several places of its tiles; a job needs a layer with one")


def _check_within(area: Area, layer: LayerSettings) -> None:
    """Raise PlanError for what the operator has left out of the layer."""
    low, high = layer.min_zoom, layer.max_zoom
    if (low is not None and area.zooms[0] < low) or (high is not None and area.zooms[-1] > high):
        raise PlanError(f"zooms: this layer has zooms {low or 0} to {30 if high is None else high} only")
    if layer.bounds is not None:
        west, south, east, north = layer.bounds
        west_a, south_a, east_a, north_a = area.bounds_deg
        if west_a > east_a:
            # Across the antimeridian, which a layer's bounds do not cross.
            west_a, east_a = -180.0, 180.0
        if not (west <= west_a <= east_a <= east and south <= south_a and north_a <= north):
            raise PlanError(f"the area is not within the layer's bounds {west},{south},{east},{north}")
