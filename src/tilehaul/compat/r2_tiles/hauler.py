"""The asynchronous half of the cache: what runs in its one thread."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tilehaul.codec.verify import verify_tile
from tilehaul.compat.r2_tiles.book import Book
from tilehaul.compat.r2_tiles.memory import AheadQueue, KeptTiles
from tilehaul.compat.r2_tiles.place import TilePlace, Wanted
from tilehaul.config.sending import Sending
from tilehaul.errors import ConfigError, DataError, PlanError, RefusedError, TilehaulError, TimedOutError
from tilehaul.net.manners import check_named
from tilehaul.ports.clock import Clock
from tilehaul.ports.wire import MIB
from tilehaul.sources.coalesced import Flights
from tilehaul.wiring.fetching import Fetcher, Patience, open_fetcher

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
RETRIES = 3
# The old waits: 0.3, 0.9, 2.7 s, and so on up to the last. They are promised as numbers, so nothing is drawn.
DELAY_S_FIRST = 0.3
DELAY_GROWTH = 3.0
DELAY_S_MAX = 30.0
# A bucket's lane. The limit where the tiles are begins with as many as the program asks for, as the old
# threads did, and shrinks when the bucket says so; those of other hosts begin with 16 (`CLASS_LIMITS`).
LANE_CLASS = "s3-read"
# Fetching ahead begins only while less than this share of what may be under way is.
AHEAD_SHARE = 0.5
LOCAL_BYTES_MAX = 8 * MIB

Origin = Literal["server", "memory", "local", "absent", "failed"]


def patience_of(timeout_s: float, retries: int) -> Patience:
    """Raises ValueError for a number out of range."""
    try:
        return Patience(
            timeout_s, retries, DELAY_S_FIRST, DELAY_S_MAX,
            # Somebody waits: an upstream that asks for more patience than this has failed.
            wait_s_max=timeout_s, growth=DELAY_GROWTH, jitter=0.0,
        )  # fmt: skip
    except ConfigError as error:
        raise ValueError(str(error)) from error


PATIENCE = patience_of(TIMEOUT_S, RETRIES)


def limit_s_of(patience: Patience) -> float:
    """How long one fetch takes at most: each attempt its timeout, and the waits between them."""
    waits_s = sum(
        min(patience.delay_s_first * patience.growth**number, patience.delay_s_max)
        for number in range(min(patience.retries, 10))
    )
    waits_s += patience.delay_s_max * max(patience.retries - 10, 0)
    return patience.timeout_s * (patience.retries + 1) + waits_s


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one tile. `cause`, also of a `local` one: why it did not come from the server.
    `advice`: what to do about it, where it could not even be asked for.
    """

    body: bytes | None
    origin: Origin
    cause: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """`workers`: fetches under way at once, to all hosts together; `local`: the folder to fall back to."""

    place: TilePlace | None
    local: Path | None
    workers: int
    contact: str
    clock: Clock | None


class Hauler:
    """Fetches for everybody who asks, `Setup.workers` at once. Made by `open_hauler`; for its loop only."""

    def __init__(
        self, setup: Setup, fetchers: tuple[Fetcher, Fetcher], kept: KeptTiles, book: Book, ahead: AheadQueue
    ) -> None:
        self._setup = setup
        self._own, self._other = fetchers
        self._kept = kept
        self._book = book
        self._ahead = ahead
        self._workers = asyncio.Semaphore(setup.workers)
        self._flights: Flights[tuple[str, Patience], bytes | None] = Flights(joined=book.joined)
        # Fetches that somebody waits for, and tasks that fetch ahead.
        self._asked = 0
        self._ahead_tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def fetch(self, url: str, patience: Patience, *, ahead: bool = False) -> Found:
        """One address; whoever asks for it with the same patience meanwhile shares the fetch.

        Raises no TilehaulError: what went wrong is the answer's cause.
        """
        try:
            body = await self._flights.join((url, patience), lambda: self._one(url, patience, ahead=ahead))
        except TilehaulError as error:
            log.debug("a tile did not come: %s", error)
            # Nothing was sent, and somebody has to do something about it: that needs words.
            advice = str(error) if isinstance(error, ConfigError | PlanError) else ""
            return Found(None, "failed", cause_of(error), advice)
        return Found(body, "absent" if body is None else "server")

    async def tile(self, wanted: Wanted) -> Found:
        """From the server, then kept; else from local storage, and not kept: the server has the newer one."""
        place, local = self._setup.place, self._setup.local
        found = Found(None, "absent")
        if place is not None:
            found = await self.fetch(place.url_of(wanted), PATIENCE)
            if found.body is not None:
                self._kept.keep(wanted.key, found.body)
                return found
        if local is not None:
            body = await asyncio.to_thread(read_local, wanted.below(local))
            if body is not None:
                self._book.count("from_local")
                return Found(body, "local", found.cause)
        return found

    async def tiles(self, wanted: Mapping[str, Wanted]) -> dict[str, Found]:
        """All of them, by the same keys."""
        found: dict[str, Found] = {}
        left = iter(wanted.items())

        async def work() -> None:
            for key, one in left:
                found[key] = await self.tile(one)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._setup.workers, len(wanted))):
                group.create_task(work())
        return found

    async def look_ahead(self) -> None:
        """Begin what may be fetched ahead now."""
        self._pump()

    async def aclose(self) -> None:
        """End every fetch."""
        self._closed = True
        tasks = set(self._ahead_tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._flights.aclose()

    async def _one(self, url: str, patience: Patience, *, ahead: bool) -> bytes | None:
        async with self._workers:
            self._book.started()
            self._asked += not ahead
            begun_s = time.monotonic()
            try:
                body = await self._get(url, patience)
            except TilehaulError as error:
                self._book.failed(time.monotonic() - begun_s, cause_of(error))
                raise
            except BaseException:
                self._book.abandoned()
                raise
            finally:
                self._asked -= not ahead
                self._pump()
            self._book.answered(time.monotonic() - begun_s)
            return body

    async def _get(self, url: str, patience: Patience) -> bytes | None:
        place = self._setup.place
        fetcher = self._own if place is not None and place.holds(url) else self._other
        limit_s = limit_s_of(patience)
        try:
            async with asyncio.timeout(limit_s):
                response = await fetcher.get(url, patience, lane_class=LANE_CLASS)
        except TimeoutError as error:
            text = f"given up after {limit_s:g} s, retries and waits included"
            raise TimedOutError(text, phase="total") from error
        return response.body if response.status in (200, 206) else None

    def _pump(self) -> None:
        place = self._setup.place
        while place is not None and len(self._ahead) and self._has_room():
            wanted = self._ahead.take()
            if wanted is None:
                return
            if self._kept.find(wanted.key) is None:
                task = asyncio.create_task(self._fetch_ahead(wanted, place.url_of(wanted)))
                self._ahead_tasks.add(task)
                task.add_done_callback(self._ahead_ended)

    def _has_room(self) -> bool:
        """Whether there is a share left that nobody waits for, and the server is well."""
        if self._closed:
            return False
        most = self._setup.workers
        for lane in self._own.lanes():
            if lane.gate != "open" or lane.breaker != "closed":
                return False
            most = min(most, lane.limit)
        return self._asked + len(self._ahead_tasks) < AHEAD_SHARE * most

    async def _fetch_ahead(self, wanted: Wanted, url: str) -> None:
        found = await self.fetch(url, PATIENCE, ahead=True)
        if found.body is not None:
            self._kept.keep(wanted.key, found.body)
            self._book.count("prefetched")

    def _ahead_ended(self, task: "asyncio.Task[None]") -> None:
        self._ahead_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fetching ahead failed", exc_info=error)
        self._pump()


@asynccontextmanager
async def open_hauler(setup: Setup, kept: KeptTiles, book: Book, ahead: AheadQueue) -> AsyncIterator[Hauler]:
    """Open connections; nothing is sent yet.

    Raises ConfigError; PlanError: the host asks every client for a contact.
    """
    sending = Sending(concurrency=setup.workers, max_wait_s=TIMEOUT_S, contact=setup.contact)
    signing = None
    if setup.place is not None:
        signing = setup.place.signing
        check_named((setup.place.sample,), sending.rules(), contact=setup.contact)
    async with AsyncExitStack() as stack:
        own, other = [
            await stack.enter_async_context(
                open_fetcher(
                    sending, connections_max=setup.workers, signing=signs, start=start, clock=setup.clock
                )
            )
            for signs, start in ((signing, setup.workers), (None, None))
        ]
        hauler = Hauler(setup, (own, other), kept, book, ahead)
        stack.push_async_callback(hauler.aclose)
        yield hauler


def cause_of(error: TilehaulError) -> str:
    return str(getattr(error, "cause", "")) or type(error).__name__.removesuffix("Error").lower()


def read_local(path: Path) -> bytes | None:
    """A whole tile of that name; None when there is none."""
    try:
        if path.stat().st_size > LOCAL_BYTES_MAX:
            raise DataError(f"larger than {LOCAL_BYTES_MAX} bytes", cause="too_large")
        body = path.read_bytes()
        verify_tile(body)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, DataError, RefusedError) as error:
        log.warning("a tile in local storage is of no use: %s", error)
        log.debug("it is %s", path)
        return None
    return body
