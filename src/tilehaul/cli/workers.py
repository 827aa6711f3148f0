"""`tilehaul serve --workers N`: one process that listens, and keeps N running that answer."""

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Sequence

import msgspec

from tilehaul.cli.logs import LogSettings
from tilehaul.cli.renewing import check_renewable
from tilehaul.cli.worker_process import WorkerProcess
from tilehaul.config.load import parse_size
from tilehaul.config.settings import Settings
from tilehaul.errors import ConfigError, TilehaulError
from tilehaul.server.connections import backlog_of, connections_max_of, files_max
from tilehaul.server.listener import listen, url_of
from tilehaul.server.quiet_uvicorn import CUT_S, DRAIN_S
from tilehaul.server.switchboard import Switchboard
from tilehaul.server.worker_link import Ask, Begin, Drop, Held, Leave, Prepare, Prepared, Reply, Take, Told

log = logging.getLogger(__name__)

# A worker that ends by itself is started again after a pause, which doubles as long as it ends within a
# minute: what kills it at once must not become a loop.
PAUSE_S = 0.1
PAUSE_S_MAX = 30.0
LASTING_S = 60.0
# A worker cuts by itself what does not end; one that has not ended so long after is killed.
SPARE_S = 5.0


class Workers:
    """The parent. `start`, then `renew` at will, then `stop`. Inside the running loop.

    Args:
        settings: Of the whole service; each worker is given its part.
        log_settings: How workers log; None: as Python does by itself.

    Raises:
        ConfigError: These settings, or this system, do not allow several processes.
    """

    def __init__(self, settings: Settings, log_settings: LogSettings | None) -> None:
        if settings.jobs is not None:
            raise ConfigError("jobs need a service of one process: leave out --jobs, or --workers")
        if sys.platform == "win32":
            raise ConfigError("--workers: on this system processes cannot share a socket; leave it out")
        self._settings = settings
        self._log_settings = log_settings
        self._began_s = time.monotonic()
        self._board = Switchboard()
        self._workers: dict[int, WorkerProcess] = {}
        self._keeping: list[asyncio.Task[None]] = []
        # Held while a worker begins and while the settings change: each begins with those that are served.
        self._changing = asyncio.Lock()
        self._listener: socket.socket | None = None

    async def start(self) -> str:
        """Listen, and wait until every worker answers. Returns the service's address.

        Raises TilehaulError: The address is taken, or a worker cannot begin; all have ended then.
        """
        where, files = self._settings.server, files_max()
        self._listener = listen(where.host, where.port, backlog_of(connections_max_of(files), files))
        indexes = range(where.workers)
        outcomes = await asyncio.gather(*map(self._begin, indexes), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.stop(asyncio.Event())
                raise outcome
        self._keeping = [asyncio.create_task(self._keep(index)) for index in indexes]
        return url_of(self._listener)

    @property
    def notes(self) -> dict[str, str]:
        """See `Serving.notes`: every worker has the same layers."""
        return next((worker.notes for worker in self._workers.values()), {})

    async def renew(self, settings: Settings) -> None:
        """Serve other settings: in all workers, or in none.

        Raises:
            ConfigError: See `check_renewable`.
            PlanError: A worker cannot open what is new; the message is its own.
        """
        check_renewable(self._settings, settings)
        async with self._changing:
            workers = list(self._workers.values())
            prepare = Prepare(_part_of(settings))
            answers = await asyncio.gather(*(worker.ask(prepare) for worker in workers))
            errors = [answer.error for answer in answers if isinstance(answer, Prepared) and answer.error]
            if errors:
                for worker in workers:
                    worker.link.send(Drop())
                raise ConfigError(errors[0])
            # One that ended meanwhile begins again, with these.
            self._settings = settings
            await asyncio.gather(*(worker.ask(Take()) for worker in workers))

    async def stop(self, hurry: asyncio.Event) -> None:
        """Let all workers end in good order; what does not end is killed. `hurry`: see `Serving.stop`."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        # Workers have the socket too, for as long as they take connections.
        if self._listener is not None:
            self._listener.close()
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.link.send(Leave())
        hurrying = asyncio.create_task(_hurry(workers, hurry))
        patience_s = self._settings.server.notice + DRAIN_S + 2 * CUT_S + SPARE_S
        await asyncio.gather(*(worker.end(patience_s) for worker in workers))
        hurrying.cancel()

    async def _begin(self, index: int) -> None:
        """Start a worker. Raises TilehaulError when it cannot begin."""
        assert self._listener is not None  # noqa: S101 - `start` has opened it
        log_settings = self._log_settings
        word = Begin(
            _part_of(self._settings),
            index,
            self._settings.server.workers,
            time.monotonic() - self._began_s,
            "" if log_settings is None else log_settings.level,
            log_settings is not None and log_settings.as_json,
        )

        def on_word(message: object) -> None:
            if isinstance(message, Told | Ask | Reply | Held):
                self._board.on(index, message)
            elif message is None:
                self._board.left(index)

        worker = await WorkerProcess.begin(word, self._listener, on_word)
        self._workers[index] = worker
        self._board.joined(index, worker.link)
        log.info("worker %d answers (process %d)", index + 1, worker.number)

    async def _keep(self, index: int) -> None:
        """Start a worker again whenever it ends."""
        pause_s = PAUSE_S
        while True:
            worker = self._workers.get(index)
            if worker is not None:
                began_s = time.monotonic()
                code = await worker.ended()
                del self._workers[index]
                await worker.end(0.0)
                pause_s = PAUSE_S if time.monotonic() - began_s >= LASTING_S else pause_s
                what = f"signal {-code}" if code < 0 else f"exit code {code}"
                log.warning("worker %d ended (%s): it begins again in %g s", index + 1, what, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)
            try:
                async with self._changing:
                    await self._begin(index)
            except (TilehaulError, OSError) as error:
                log.error("worker %d cannot begin; again in %g s: %s", index + 1, pause_s, error)


async def _hurry(workers: Sequence[WorkerProcess], hurry: asyncio.Event) -> None:
    await hurry.wait()
    for worker in workers:
        # The second time it means: at once.
        worker.link.send(Leave())


def _part_of(settings: Settings) -> Settings:
    """The settings of one worker: memory divided. Lanes are divided by their `Share`."""
    memory = max(1, parse_size(settings.cache.memory, "cache.memory") // settings.server.workers)
    return msgspec.structs.replace(settings, cache=msgspec.structs.replace(settings.cache, memory=memory))
