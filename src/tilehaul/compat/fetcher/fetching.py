"""One tile, or many in a list."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from operator import index
from typing import Literal, overload

from tilehaul.compat.fetcher.client import (
    MAX_CONNECTIONS_MAX,
    NoTileError,
    TileClientPool,
    checked_client,
)
from tilehaul.compat.fetcher.config import patience_of
from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.stream import StreamPlan, stream
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.tile import FailedTile, NoTile, Tile
from tilehaul.wiring.fetching import Patience

# (z, x, y), XYZ scheme.
Place = tuple[int, int, int]


async def fetch_tile(
    client: TileClientPool,
    z: int,
    x: int,
    y: int,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
) -> bytes:
    """One tile, verified.

    Args:
        client: A TileClientPool that is open.
        z, x, y: XYZ scheme.
        timeout_seconds: Of one attempt, > 0: without progress for so long it has failed, or after four times
            as long in all.
        retries: Attempts after the first, >= 0. A server that asks for fewer requests costs none.
        backoff_base, backoff_cap: A retry waits between 0 and `backoff_base` seconds, doubled with each, at
            most `backoff_cap`.

    Raises:
        NoTileError: The server says that there is no such tile.
        TransferError, DataError, BusyError: It did not come.
        PlanError: No tile of the grid.
        TypeError: Another library's client.
        ValueError: A number out of range.
    """
    pool = checked_client(client, "fetch_tile")
    patience = patience_of(timeout_seconds, retries, backoff_base, backoff_cap, pool.max_wait_s)
    answer = await pool.answer(tile_id((z, x, y)), patience)
    if isinstance(answer, NoTile):
        raise NoTileError.of(answer)
    return answer.body


@overload
async def fetch_tiles_concurrently(
    tiles: Iterable[Place],
    max_concurrency: int = 10,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    client: TileClientPool | None = None,
    *,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
    global_timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    base_url: str | None = None,
) -> list[bytes]: ...
@overload
async def fetch_tiles_concurrently(
    tiles: Iterable[Place],
    max_concurrency: int = 10,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    client: TileClientPool | None = None,
    *,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
    global_timeout: float | None = None,
    return_exceptions: bool,
    base_url: str | None = None,
) -> list[bytes | Exception]: ...
async def fetch_tiles_concurrently(
    tiles: Iterable[Place],
    max_concurrency: int = 10,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    client: TileClientPool | None = None,
    *,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
    global_timeout: float | None = None,
    return_exceptions: bool = False,
    base_url: str | None = None,
) -> list[bytes] | list[bytes | Exception]:
    """Many tiles at once, in the order in which they were named. For more than memory holds: a stream.

    Args:
        tiles: (z, x, y) each; one that is named twice is fetched once.
        max_concurrency: Tiles asked for at once, in 1..MAX_CONNECTIONS_MAX.
        timeout_seconds, retries, backoff_base, backoff_cap: As `fetch_tile`.
        client: A TileClientPool that is open; None: one of its own, which waits while a server that fails
            is left alone.
        global_timeout: Seconds for all together, > 0; None: no limit.
        return_exceptions: Failures take the tile's place in the list, instead of ending everything.
        base_url: The server, when there is no `client`.

    Raises:
        TimeoutError: `global_timeout` is over.
        PlanError: The provider forbids bulk download; or a public server and no contact.
        Else as `fetch_tile`: the first failure, once the other requests have been ended.
    """
    if global_timeout is not None and not 0 < global_timeout < float("inf"):
        raise ValueError(f"global_timeout must be above 0 seconds, not {global_timeout}")
    size = checked_size("max_concurrency", max_concurrency)
    async with _pool(client, base_url, size, "fetch_tiles_concurrently") as pool:
        patience = patience_of(timeout_seconds, retries, backoff_base, backoff_cap, pool.max_wait_s)
        await pool.check_bulk()
        return await collected(
            pool, _read(tiles), patience, size, limit_s=global_timeout, keep_errors=return_exceptions
        )


async def fetch_tiles_sequential(
    tiles: Iterable[Place],
    timeout_seconds: float = 10.0,
    retries: int = 2,
    client: TileClientPool | None = None,
    *,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
    base_url: str | None = None,
) -> list[bytes]:
    """Many tiles one after the other, as a base line. Arguments and errors as `fetch_tiles_concurrently`."""
    async with _pool(client, base_url, 1, "fetch_tiles_sequential") as pool:
        await pool.check_bulk()
        return [
            await fetch_tile(pool, at.z, at.x, at.y, timeout_seconds, retries, backoff_base, backoff_cap)
            for at in map(tile_id, tiles)
        ]


def tile_id(tile: object) -> TileId:
    """Raises PlanError for what is not three whole numbers, or not in the grid."""
    try:
        z, x, y = map(index, tile)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise PlanError(f"{tile!r} is not a tile: (z, x, y) is wanted") from error
    return TileId.checked(z, x, y)


def _read(tiles: Iterable[Place]) -> list[TileId | PlanError]:
    """All of them, those that are no tiles as the error they are."""
    read: list[TileId | PlanError] = []
    for tile in tiles:
        try:
            read.append(tile_id(tile))
        except PlanError as error:
            read.append(error)
    return read


def checked_size(name: str, size: int) -> int:
    if not 1 <= size <= MAX_CONNECTIONS_MAX:
        raise ValueError(f"{name} must be within 1..{MAX_CONNECTIONS_MAX}, not {size}")
    return size


@asynccontextmanager
async def _pool(
    client: TileClientPool | None, base_url: str | None, size: int, function: str
) -> AsyncIterator[TileClientPool]:
    if client is not None:
        if base_url is not None:
            raise ValueError("base_url belongs to the client: TileClientPool(base_url=...)")
        yield checked_client(client, function)
        return
    async with TileClientPool(size, base_url=base_url, pause=True) as own:
        yield own


def answers_of(
    pool: TileClientPool, tiles: Iterable[TileId] | AsyncIterable[TileId], patience: Patience, size: int
) -> AsyncGenerator[Tile | NoTile | FailedTile, None]:
    """The engine's stream, over a pool that tries again by itself."""
    origin = nullcontext(Origin(pool.source(patience)))
    plan = StreamPlan(workers=size, ahead_tiles=size)
    return stream(origin, tiles, plan, tally=Tally(), clock=SystemClock())


def outcome_of(answer: Tile | NoTile | FailedTile) -> bytes | Exception:
    if isinstance(answer, Tile):
        return answer.body
    return NoTileError.of(answer) if isinstance(answer, NoTile) else answer.error


async def collected(
    pool: TileClientPool,
    tiles: Sequence[TileId | PlanError],
    patience: Patience,
    size: int,
    *,
    limit_s: float | None = None,
    keep_errors: bool,
) -> list[bytes | Exception]:
    """An outcome for each; without `keep_errors` the first failure is raised instead."""
    wanted = dict.fromkeys(tile for tile in tiles if isinstance(tile, TileId))
    if not keep_errors and (bad := next((tile for tile in tiles if isinstance(tile, PlanError)), None)):
        raise bad
    outcomes: dict[TileId, bytes | Exception] = {}
    try:
        async with asyncio.timeout(limit_s), aclosing(answers_of(pool, wanted, patience, size)) as answers:
            async for answer in answers:
                outcome = outcome_of(answer)
                if not keep_errors and isinstance(outcome, Exception):
                    raise outcome
                outcomes[answer.tile_id] = outcome
    except TimeoutError:
        text = f"{len(outcomes):,} of {len(wanted):,} tiles had come when the time was over ({limit_s:g} s)"
        if not keep_errors:
            raise TimeoutError(text) from None
        for tile in wanted:
            outcomes.setdefault(tile, TimeoutError(text))
    return [tile if isinstance(tile, PlanError) else outcomes[tile] for tile in tiles]
