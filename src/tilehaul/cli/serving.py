"""One process of the service: layers, the server in front of them, and new settings for both."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from tilehaul.cli.renewing import check_renewable
from tilehaul.config.settings import ServerSettings, Settings
from tilehaul.grid.tile_id import TileId
from tilehaul.net.clock import SystemClock
from tilehaul.policy.share import WHOLE, Share
from tilehaul.server.app import Server, Service, make_app
from tilehaul.server.cors import Cors
from tilehaul.server.figures import Others
from tilehaul.server.meter import Meter, meter_of
from tilehaul.server.worker_figures import WorkerFigures
from tilehaul.wiring.layers import Generation, api_keys, open_generation
from tilehaul.wiring.running_jobs import RunningJobs, may_change

log = logging.getLogger(__name__)

# Requests that are under way when the settings change have this long to end: as long as an attempt at an
# origin may take by default, four times its timeout.
RETIRE_S = 120.0
RETIRE_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """What a process is told besides the settings.

    `listener`: see `Server`. `others`: the other processes; `held`: told when an upstream asks a lane of this
    one to wait, with its name and the seconds. `started_s`: when the service began.
    """

    share: Share = WHOLE
    listener: socket.socket | None = None
    others: Others | None = None
    held: Callable[[str, float], None] | None = None
    started_s: float | None = None


class Serving:
    """Use: `start`; any number of `prepare` and then `take` or `drop`; `stop`. Inside the running loop."""

    def __init__(self, settings: Settings, process: Process) -> None:
        """Raises ConfigError: as `RunningJobs`."""
        clock = SystemClock()
        self._clock = clock
        self._process = process
        self._settings = settings
        self._started_s = clock.now_s() if process.started_s is None else process.started_s
        self._jobs = RunningJobs(settings) if settings.jobs is not None else None
        self._now: Generation | None = None
        self._next: Generation | None = None
        self._app: Service | None = None
        self._server: Server | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._limits: tuple[object, ...] = ()
        self._meter: Meter | None = None

    async def start(self) -> str:
        """Open the layers and listen. Returns the service's address. Raises what the two raise."""
        self._now = await self._open(self._settings)
        try:
            self._app = self._app_of(self._now)
            where = self._settings.server
            self._server = Server(
                self._app, host=where.host, port=where.port, listener=self._process.listener
            )
            await self._server.start()
        except BaseException:
            await self._now.close()
            raise
        return self._server.url

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers served now."""
        return () if self._now is None else tuple(self._now.opened)

    @property
    def notes(self) -> dict[str, str]:
        """By layer, what people should read of it: see `SourceInfo.note`."""
        opened = {} if self._now is None else self._now.opened
        told = {name: one.layer.source.info.note for name, one in opened.items()}
        return {name: note for name, note in told.items() if note}

    def own_figures(self) -> WorkerFigures:
        return WorkerFigures() if self._app is None else self._app.figures.own()

    def news(self) -> WorkerFigures | None:
        """See `Figures.news`."""
        return None if self._app is None else self._app.figures.news()

    async def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int:
        """See `Caches.forget`."""
        return 0 if self._now is None else await self._now.company.caches.forget(layer, wanted)

    def hold(self, lane: str, delay_s: float) -> None:
        """See `LanePool.hold`."""
        if self._now is not None:
            self._now.company.pool.hold(lane, delay_s)

    async def renew(self, settings: Settings) -> None:
        """Serve other settings, or go on as before. Raises as `prepare`."""
        await self.prepare(settings)
        await self.take()

    async def prepare(self, settings: Settings) -> None:
        """Open what is new in `settings`; requests notice nothing.

        Raises:
            ConfigError: See `check_renewable`.
            TilehaulError: A layer cannot be opened; nothing has changed.
        """
        check_renewable(self._settings, settings)
        await self.drop()
        self._next = await self._open(settings)

    async def _open(self, settings: Settings) -> Generation:
        process = self._process
        return await open_generation(settings, self._now, share=process.share, held=process.held)

    async def take(self) -> None:
        """Serve what was prepared last. Requests under way end on what they began with."""
        before, now, server = self._now, self._next, self._server
        if before is None or now is None or server is None:
            return
        app, app_before = self._app_of(now), self._app
        server.renew(app)
        self._settings, self._now, self._next, self._app = now.company.settings, now, None, app
        if self._jobs is not None:
            self._jobs.renew(self._settings)
        await now.forget_others_tiles(before)
        task = asyncio.create_task(self._retire(before, now, app_before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def drop(self) -> None:
        """Close what was prepared and not taken."""
        prepared, self._next = self._next, None
        if prepared is not None:
            await prepared.close(but_for=self._now)

    async def stop(self, hurry: asyncio.Event) -> None:
        """End in good order: jobs, then requests. `hurry`: ends the notice (`server.notice`) at once."""
        if self._app is not None:
            self._app.drain()
        if self._settings.server.notice:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.server.notice):
                    await hurry.wait()
        if self._jobs is not None:
            # Before the server: whoever follows a job is told of its end.
            await self._jobs.aclose()
        if self._server is not None:
            await self._server.stop()
        await asyncio.gather(*self._retiring)
        await self.drop()
        if self._now is not None:
            await self._now.close()

    async def _retire(self, before: Generation, now: Generation, app: Service | None) -> None:
        try:
            async with asyncio.timeout(RETIRE_S):
                # Also at the service's own end, which waits for them and cuts what does not end.
                while app is not None and app.tiles_waiting:  # noqa: ASYNC110 - a count tells nobody
                    await asyncio.sleep(RETIRE_LOOK_S)
        except TimeoutError:
            log.warning("requests that began before the configuration was read anew are cut")
        # What ended since has been kept, under the names of the layers of now.
        await now.forget_others_tiles(before)
        await before.close(but_for=now)

    def _meter_of(self, settings: ServerSettings) -> Meter | None:
        """The one before, with what it knows of the clients, unless they are held to something else now."""
        limits = (settings.client_rate, settings.client_burst, settings.trusted_proxies)
        if limits != self._limits:
            self._limits, self._meter = limits, meter_of(settings, self._clock.now_s)
        return self._meter

    def _app_of(self, generation: Generation) -> Service:
        settings, opened = generation.company.settings, generation.layers()
        return make_app(
            opened.layers,
            opened.caches.memory,
            clock=self._clock,
            public_url=settings.server.public_url,
            checks=opened.checks,
            process=opened.process,
            disk=opened.caches.disk_stats,
            jobs=self._jobs,
            deadline_s=settings.server.deadline_s,
            cors=Cors(settings.server.cors),
            admin_key=settings.server.admin_key,
            keys=api_keys(settings),
            meter=self._meter_of(settings.server),
            forget=opened.caches.forget if may_change(settings) else None,
            others=self._process.others,
            started_s=self._started_s,
        )
