"""Connections to one tile server."""

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tilehaul.compat.fetcher.config import checked_template, environment
from tilehaul.compat.fetcher.health import TileServiceHealth
from tilehaul.config.sending import PATIENCE_S_MAX, Sending
from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.xyz import XyzOpener, XyzSource
from tilehaul.wiring.checking import check_location
from tilehaul.wiring.fetching import Fetcher, Patience, open_fetcher

MAX_CONNECTIONS_DEFAULT = 100
# More has no use with one host (`policy.limit_rule`).
MAX_CONNECTIONS_MAX = 1000
MAX_WAIT_S_DEFAULT = 60.0


class NoTileError(TilehaulError, LookupError):
    """The source says that there is no such tile: `tile` is its (z, x, y). Not a failure of the source."""

    def __init__(self, message: str, *, tile: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__(message)
        self.tile = tile

    @classmethod
    def of(cls, absent: NoTile) -> "NoTileError":
        at = absent.tile_id
        return cls(f"there is no tile {at} ({absent.cause})", tile=(at.z, at.x, at.y))


class TileClientPool:
    """Connections to one tile server, to be given to `fetch_tile` and its kin.

        async with TileClientPool() as client:
            tile = await fetch_tile(client, 5, 17, 11)

    All that goes through one pool shares its connections and, for each host, one limit that finds itself
    (`max_connections` at most), one gate and one breaker. `health` counts how it goes.

    Args:
        max_connections: Connections, and requests under way at once, in 1..MAX_CONNECTIONS_MAX.
        base_url: The server, or a URL template; None: TILE_BASE_URL.
        contact: Who to write to, for the User-Agent; None: TILEHAUL_CONTACT. Public servers need one when
            tiles are fetched in bulk.
        max_wait_s: Longest wait for a server that asks for fewer requests, > 0, at most PATIENCE_S_MAX.
        pause: While a server that fails is left alone, wait for it (in a program that has time); else
            BusyError is raised at once, which says when to come back.

    Raises:
        ValueError: A number out of range, or no server.
    """

    def __init__(
        self,
        max_connections: int = MAX_CONNECTIONS_DEFAULT,
        *,
        base_url: str | None = None,
        contact: str | None = None,
        max_wait_s: float = MAX_WAIT_S_DEFAULT,
        pause: bool = False,
    ) -> None:
        if not 1 <= max_connections <= MAX_CONNECTIONS_MAX:
            raise ValueError(
                f"max_connections must be within 1..{MAX_CONNECTIONS_MAX}, not {max_connections}"
            )
        if not 0 < max_wait_s <= PATIENCE_S_MAX:
            raise ValueError(
                f"max_wait_s must be above 0 and at most {PATIENCE_S_MAX:g} seconds, not {max_wait_s}"
            )
        self.template = checked_template(base_url or environment().base_url)
        self.max_connections = max_connections
        self.max_wait_s = max_wait_s
        self.pause = pause
        self.health = TileServiceHealth()
        self._sending = Sending(
            concurrency=max_connections,
            max_wait_s=max_wait_s,
            contact=os.environ.get("TILEHAUL_CONTACT", "") if contact is None else contact,
        )
        self._source_of: XyzOpener = XyzSource.opener(self.template)
        self._stack: AsyncExitStack | None = None
        self._fetcher: Fetcher | None = None
        self._bulk_checked = False

    @property
    def client(self) -> Self:
        """Itself: older programs say `pool.client`."""
        return self

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise RuntimeError("this TileClientPool is open already: make one for each `async with`")
        self._stack = AsyncExitStack()
        self._fetcher = await self._stack.enter_async_context(
            open_fetcher(self._sending, connections_max=self.max_connections, pause=self.pause)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack, self._fetcher = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    async def answer(self, tile_id: TileId, patience: Patience) -> Tile | NoTile:
        """One tile, counted in `health`. Raises RuntimeError when this is not open; as `Fetcher.tile`."""
        if self._fetcher is None:
            raise RuntimeError("the TileClientPool is not open: `async with TileClientPool() as client: ...`")
        with self.health.request():
            return await self._fetcher.tile(self._source_of, tile_id, patience)

    async def check_bulk(self) -> None:
        """Whether many tiles may be fetched from this server. Asked once.

        Raises:
            PlanError: The provider forbids it, or a public server and no contact.
        """
        if not self._bulk_checked:
            await check_location(self.template, self._sending)
            self._bulk_checked = True

    def source(self, patience: Patience) -> "PooledSource":
        """The pool as a source of tiles."""
        return PooledSource(self, patience, self._source_of.info)


@dataclass(frozen=True, slots=True)
class PooledSource:
    """A `TileSource` over a pool, with one patience for every tile."""

    pool: TileClientPool
    patience: Patience
    info: SourceInfo

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        return await self.pool.answer(tile_id, self.patience)


def checked_client(client: object, function: str) -> TileClientPool:
    """What was given as client. Raises TypeError for another library's."""
    if not isinstance(client, TileClientPool):
        kind = f"{type(client).__module__}.{type(client).__name__}"
        raise TypeError(
            f"{function} takes a TileClientPool, not {kind}: `async with TileClientPool() as client: ...`"
        )
    return client
