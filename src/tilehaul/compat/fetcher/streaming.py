"""Many tiles as a stream, in batches, onto the disk: memory does not grow with their number."""

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tilehaul.compat.fetcher.client import TileClientPool, checked_client
from tilehaul.compat.fetcher.config import checked_template, environment, patience_of
from tilehaul.compat.fetcher.fetching import Place, answers_of, checked_size, collected, outcome_of, tile_id
from tilehaul.config.sending import Sending
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.events import SeedReport
from tilehaul.wiring.seeding import SeedOptions, seed

_log = logging.getLogger(__name__)

OnError = Callable[[Place, Exception], object]


class TileData(NamedTuple):
    """One tile of a stream."""

    z: int
    x: int
    y: int
    data: bytes


async def fetch_tile_batch(
    client: TileClientPool,
    tile_batch: Iterable[Place],
    batch_size: int = 50,
    *,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
    on_error: OnError | None = None,
) -> AsyncGenerator[bytes, None]:
    """Tiles in their order, `batch_size` of them (1..MAX_CONNECTIONS_MAX) asked for at once and in memory.

    A tile that does not come is left out: `on_error(tile, error)` is told, or else a warning logged.

    Args and errors else as `fetch_tile`; PlanError as `fetch_tiles_concurrently`.
    """
    pool = checked_client(client, "fetch_tile_batch")
    size = checked_size("batch_size", batch_size)
    patience = patience_of(timeout_seconds, retries, backoff_base, backoff_cap, pool.max_wait_s)
    await pool.check_bulk()
    rest = iter(tile_batch)
    while batch := [tile_id(tile) for tile in islice(rest, size)]:
        outcomes = await collected(pool, batch, patience, size, keep_errors=True)
        for tile, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, bytes):
                yield outcome
            elif on_error is not None:
                on_error((tile.z, tile.x, tile.y), outcome)
            else:
                _log.warning("left out of the batch: %s", outcome)


async def bounded_tile_stream(
    client: TileClientPool,
    tiles: Iterable[Place] | AsyncIterable[Place],
    max_concurrency: int = 10,
    *,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    backoff_base: float = 0.2,
    backoff_cap: float = 2.0,
    on_error: OnError | None = None,
) -> AsyncGenerator[TileData, None]:
    """Tiles as they come, with their address; memory does not grow with their number.

    At most `max_concurrency` (1..MAX_CONNECTIONS_MAX) are under way and as many lie ready: a slow reader
    slows the requests. Leaving the loop ends them.

    Args:
        tiles: Read as they are needed.
        on_error: Told `(tile, error)` for each that does not come; None: the first one is raised.

    Args and errors else as `fetch_tile`; PlanError as `fetch_tiles_concurrently`.
    """
    pool = checked_client(client, "bounded_tile_stream")
    size = checked_size("max_concurrency", max_concurrency)
    patience = patience_of(timeout_seconds, retries, backoff_base, backoff_cap, pool.max_wait_s)
    await pool.check_bulk()
    async with aclosing(answers_of(pool, _each(tiles), patience, size)) as answers:
        async for answer in answers:
            place = (answer.tile_id.z, answer.tile_id.x, answer.tile_id.y)
            outcome = outcome_of(answer)
            if isinstance(outcome, bytes):
                yield TileData(*place, outcome)
            elif on_error is None:
                raise outcome
            else:
                on_error(place, outcome)


async def stream_tiles_to_disk(
    tiles: Iterable[Place],
    directory: str | Path = "tiles",
    *,
    max_concurrency: int = 10,
    timeout_seconds: float = 10.0,
    retries: int = 2,
    base_url: str | None = None,
    contact: str | None = None,
) -> SeedReport:
    """Keep tiles as `directory/z/x/y.png`, with their true endings. Run it again to go on: it is a seed.

    Args:
        directory: Made when it does not exist; an `.mbtiles` file does as well.
        max_concurrency, timeout_seconds, retries: As `fetch_tiles_concurrently`.
        base_url: None: TILE_BASE_URL.
        contact: None: TILEHAUL_CONTACT.

    Returns:
        What became of them: `done`, `absent`, `dead` (tried and given up; asked for again the next time).

    Raises:
        ValueError: A number out of range, or no server.
        PlanError, FuseError, StorageError: As `tilehaul.seed`.
    """
    patience_of(timeout_seconds, retries)
    sending = Sending(
        concurrency=checked_size("max_concurrency", max_concurrency),
        timeout_s=timeout_seconds,
        retries=retries,
        contact=os.environ.get("TILEHAUL_CONTACT", "") if contact is None else contact,
    )
    template = checked_template(base_url or environment().base_url)
    area = Area.from_tiles(tile_id(tile) for tile in tiles)
    return await seed(template, str(directory), area, options=SeedOptions(sending=sending))


def _each(tiles: Iterable[Place] | AsyncIterable[Place]) -> Iterator[TileId] | AsyncIterator[TileId]:
    if isinstance(tiles, AsyncIterable):
        return (tile_id(tile) async for tile in tiles)
    return map(tile_id, tiles)
