"""A tile server that does what it is told, right or wrong: for tests, the benchmark and the demo.

async with MockServer(MockSettings(faults=Faults(errors={503: 0.1}))) as server:
    ...  # server.template, server.stats(), server.body_of("3/4/2")
"""

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock_connection import MockConnection
from tilehaul.lab.mock_origin import MockOrigin, tile_of
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.tile_bodies import TileBodies
from tilehaul.lab.traffic import MockStats
from tilehaul.net.loops import new_loop

__all__ = ["MockServer", "MockSettings", "MockStats", "MockThread"]

BACKLOG = 1024
# How long the thread of `MockThread` may take to start and to end.
THREAD_S_MAX = 30.0

_Answer = TypeVar("_Answer")


class MockServer:
    """The server, an asynchronous context manager. All methods belong to its loop.

    Args:
        settings: What it serves and what it does wrong.
        now_s: Monotonic seconds, for limits, scripts and counters.
        wall_s: Seconds since 1970, for Date and Retry-After dates.

    Raises (on entry):
        ConfigError: Settings that cannot be; Pillow or the picture missing; the port in use.
    """

    def __init__(
        self,
        settings: MockSettings | None = None,
        *,
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or MockSettings()
        self._now_s, self._wall_s = now_s, wall_s
        self._connections: set[MockConnection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        settings, loop = self.settings, asyncio.get_running_loop()
        self._maker = ThreadPoolExecutor(settings.making_threads, thread_name_prefix="mock-tiles")
        try:
            # Decoding the world takes a third of a second.
            bodies = await loop.run_in_executor(self._maker, self._load_bodies)
            self._origin = MockOrigin(settings, bodies, self._maker, now_s=self._now_s, wall_s=self._wall_s)
            self._server = await self._listen(loop)
        except BaseException:
            self._maker.shutdown(wait=False, cancel_futures=True)
            raise
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, cut every connection, wait for tiles being made."""
        del kind, error, trace
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.cut()
        await self._server.wait_closed()
        self._server = None
        while self._connections:
            # `connection_lost` is called in the loop's next rounds, and so is `connection_made` of those that
            # were accepted just before the end.
            await asyncio.sleep(0)
            for connection in tuple(self._connections):
                connection.cut()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self._maker.shutdown(wait=True, cancel_futures=True))

    def _load_bodies(self) -> TileBodies:
        settings = self.settings
        return TileBodies(
            settings.tiles,
            tile_bytes=settings.tile_bytes,
            cache_bytes_max=settings.cache_bytes_max,
            etags=settings.etags,
        )

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.Server:
        settings, origin, connections = self.settings, self._origin, self._connections

        def connect() -> MockConnection:
            return MockConnection(origin, loop, connections)

        try:
            return await loop.create_server(connect, settings.host, settings.port, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {settings.port} on {settings.host} is in use:"
                    " stop the other program, or choose another with --port (0 takes a free one)"
                ) from error
            raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {error}") from error
        except OverflowError as error:
            raise ConfigError(f"port: 0 to 65535, not {settings.port}") from error

    @property
    def base_url(self) -> str:
        """Without a slash at the end."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.port}"

    @property
    def template(self) -> str:
        """For a client: `http://127.0.0.1:PORT/{z}/{x}/{y}.png`, with the true extension."""
        return f"{self.base_url}/{{z}}/{{x}}/{{y}}.{self._origin.format}"

    def body_of(self, tile: TileId | str, extension: str = "") -> bytes:
        """The true bytes of a tile, faults or not. May draw or cut on the calling thread.

        Raises:
            ConfigError: Not an address, or a format these tiles do not have.
        """
        bodies, tile_id, wanted = self._origin.bodies, tile_of(tile), extension or self._origin.format
        if wanted not in bodies.extensions:
            raise ConfigError(f"format: {self.settings.tiles} tiles are {', '.join(bodies.extensions)}")
        return (bodies.find(tile_id, wanted) or bodies.make(tile_id, wanted)).body

    def is_absent(self, tile: TileId | str) -> bool:
        """Whether the settings say there is no such tile (inside the grid)."""
        return self.settings.absence.covers(tile_of(tile), self.settings.seed)

    def stats(self) -> MockStats:
        """The counters now."""
        return self._origin.stats()

    def requests_of(self, tile: TileId | str) -> int:
        """How often one tile was asked for since the last reset."""
        return self._origin.tally.per_tile.get(tile_of(tile), 0)

    def set_faults(self, faults: Faults) -> None:
        """Other faults from the next request on. Raises ConfigError if a script's step cannot join them."""
        self._origin.set_faults(faults)

    def reset(self) -> MockStats:
        """Counters, attempts, limits and the script's time begin again. Answers the counters until now."""
        stats = self.stats()
        self._origin.reset()
        return stats


class MockThread:
    """The server in a thread of its own, for callers without a loop. The same methods, from any thread."""

    def __init__(self, settings: MockSettings | None = None) -> None:
        self._inner = MockServer(settings)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="mock-server", daemon=True)

    def __enter__(self) -> Self:
        """Raises what `MockServer` raises on entry."""
        self._thread.start()
        if not self._ready.wait(THREAD_S_MAX):
            raise ConfigError(f"the mock server did not start within {THREAD_S_MAX:g} s")
        if self._failure is not None:
            self._thread.join(THREAD_S_MAX)
            raise self._failure
        self.base_url, self.template, self.port = self._inner.base_url, self._inner.template, self._inner.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the server; raises what ended it early, unless something else is being raised."""
        del kind, trace
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(THREAD_S_MAX)
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - the door of a thread: the starter raises it
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._inner:
            self._ready.set()
            await self._stop.wait()

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        # Only coroutines cross from a thread to the loop and bring an answer back.
        async def run() -> _Answer:
            return question()

        if self._loop is None:
            raise ConfigError("the mock server is not running")
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(THREAD_S_MAX)

    def body_of(self, tile: TileId | str, extension: str = "") -> bytes:
        return self._ask(lambda: self._inner.body_of(tile, extension))

    def is_absent(self, tile: TileId | str) -> bool:
        return self._inner.is_absent(tile)

    def stats(self) -> MockStats:
        return self._ask(self._inner.stats)

    def requests_of(self, tile: TileId | str) -> int:
        return self._ask(lambda: self._inner.requests_of(tile))

    def set_faults(self, faults: Faults) -> None:
        self._ask(lambda: self._inner.set_faults(faults))

    def reset(self) -> MockStats:
        return self._ask(self._inner.reset)
