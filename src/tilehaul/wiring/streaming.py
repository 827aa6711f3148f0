"""`tilehaul.stream`: a location and any number of tiles become answers as they come."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from tilehaul.config.locations import parse_location
from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.stream import AHEAD_BYTES_MAX, AHEAD_TILES_MAX, StreamPlan
from tilehaul.jobs.stream import stream as run_stream
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import TileSource
from tilehaul.ports.tile import FailedTile, NoTile, Tile
from tilehaul.wiring.checking import check_location
from tilehaul.wiring.places import open_origin, workers_for


def stream(
    source: str | TileSource,
    tiles: Iterable[TileId] | AsyncIterable[TileId],
    *,
    sending: Sending = SENDING_DEFAULT,
    ahead_tiles: int = AHEAD_TILES_MAX,
    ahead_bytes: int = AHEAD_BYTES_MAX,
) -> AsyncGenerator[Tile | NoTile | FailedTile, None]:
    """Ask for many tiles; iterate over what became of each, in the order in which it is known.

        async for answer in tilehaul.stream("https://host/{z}/{x}/{y}.png", area):
            match answer:
                case tilehaul.Tile(tile_id, body): ...
                case tilehaul.FailedTile(tile_id, error, attempts): ...

    One failure ends nothing. Leaving the loop ends every request; to wait until they have ended, open the
    stream with `contextlib.aclosing`.

    Args:
        source: A location, or a source that is open already (it then tries again, and limits, by itself).
        tiles: Any iterable or async iterable, read a little ahead of the requests, in the loop's thread:
            one that has to wait for something should be async. What it raises is raised here, once all
            that it gave before has been answered.
        sending: How; a few more tiles than the lane may have under way at once are asked for.
        ahead_tiles, ahead_bytes: What may lie ready before you ask for it. Slower readers slow the requests.

    Raises:
        ConfigError: A limit is below 1, or the URL template is wrong.
        PlanError: Not a location, a provider that forbids bulk download, or an item that is no TileId.
        FuseError: Nothing came for `sending.max_wait_s`.
    """
    workers = (
        workers_for(parse_location(source), sending)
        if isinstance(source, str)
        else sending.workers_for("tile")
    )
    plan = StreamPlan(
        workers=workers,
        ahead_tiles=ahead_tiles,
        ahead_bytes=ahead_bytes,
        max_wait_s=sending.max_wait_s,
    )
    tally = Tally()
    opening: AbstractAsyncContextManager[Origin] = (
        _opened(source, sending, tally) if isinstance(source, str) else nullcontext(Origin(source))
    )
    return run_stream(opening, tiles, plan, tally=tally, clock=SystemClock())


@asynccontextmanager
async def _opened(location: str, sending: Sending, tally: Tally) -> AsyncIterator[Origin]:
    await check_location(location, sending)
    async with open_origin(location, sending=sending, tally=tally) as origin:
        yield origin
