"""Tiles of a WMS: one picture is asked for, and cut into many tiles."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from tilehaul.codec.wms_request import Box, MapRequest
from tilehaul.errors import BrokenError, BusyError, DataError, TilehaulError
from tilehaul.grid.mercator import HALF_WORLD_M
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.clock import Clock
from tilehaul.ports.origin import UNNAMED, Heard, Validators
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import MIB, Request, Sender, Timeouts
from tilehaul.sources.wms_kept import KeptPictures, Said

TILE_PX = 256
# A picture of 4096 x 4096 px as PNG.
PICTURE_BYTES_MAX = 64 * MIB
# A map is drawn when it is asked for (`resilience` (a)).
WMS_TIMEOUTS = Timeouts(first_byte_s=60.0)

Headers = tuple[tuple[str, str], ...]


class Block(NamedTuple):
    """`side` x `side` tiles that are asked for together; `column`, `row` are its first."""

    z: int
    column: int
    row: int
    side: int


class Picture(NamedTuple):
    """What is asked for a block: its box in units of the CRS and its size, both with the buffer.

    `left_px`, `top_px` are the buffer before the block's first tile, in pixels of the zoom.
    """

    box: Box
    width_px: int
    height_px: int
    left_px: int
    top_px: int


class Frames(Protocol):
    """Which picture is asked for a block, and how its tiles are made of it."""

    def side(self, z: int) -> int:
        """Tiles a side of a block of zoom `z`."""
        ...

    def picture(self, block: Block) -> Picture: ...

    def cut(self, body: bytes, block: Block) -> tuple[bytes, ...]:
        """The block's tiles by rows; may take its time. Raises DataError."""
        ...


class _Flight:
    """One picture on its way and the number of those who wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Said]) -> None:
        self.task = task
        self.waiters = 0


def picture_of(block: Block, buffer_px: int) -> Picture:
    """The buffer is left out where the world ends: no server has anything there."""
    last = (1 << block.z) - block.side
    left, right = (0 if at else buffer_px for at in (block.column == 0, block.column == last))
    top, bottom = (0 if at else buffer_px for at in (block.row == 0, block.row == last))
    px_m = 2.0 * HALF_WORLD_M / (TILE_PX << block.z)
    west_px, north_px = block.column * TILE_PX - left, block.row * TILE_PX - top
    width, height = block.side * TILE_PX + left + right, block.side * TILE_PX + top + bottom
    west, north = west_px * px_m - HALF_WORLD_M, HALF_WORLD_M - north_px * px_m
    return Picture((west, north - height * px_m, west + width * px_m, north), width, height, left, top)


class MercatorFrames:
    """Pictures in Web Mercator, of `meta` x `meta` tiles with `buffer_px` around.

    Raises ConfigError when they must be cut and Pillow is missing.
    """

    def __init__(self, meta: int, buffer_px: int) -> None:
        self._meta = meta
        self._buffer_px = buffer_px
        # Pillow is an extra, and is not needed where pictures are tiles already.
        self._cut: Callable[..., tuple[bytes, ...]] | None = None
        if meta > 1 or buffer_px:
            from tilehaul.pixels.meta_cut import cut_picture  # noqa: PLC0415

            self._cut = cut_picture

    def side(self, z: int) -> int:
        """At small zooms the world is smaller than a block."""
        return min(self._meta, 1 << z)

    def picture(self, block: Block) -> Picture:
        return picture_of(block, self._buffer_px)

    def cut(self, body: bytes, block: Block) -> tuple[bytes, ...]:
        if self._cut is None:
            return (body,)
        picture = self.picture(block)
        return self._cut(
            body,
            side=block.side,
            tile_px=TILE_PX,
            left_px=picture.left_px,
            top_px=picture.top_px,
            size_px=(picture.width_px, picture.height_px),
        )


class WmsSource:
    """Asks `sender`, a verified one, for pictures of many tiles, as `frames` say.

    Those who want tiles of one block at the same time share one request, and its tiles are kept until others
    take their place (CUT_BYTES_MAX): asked along the Hilbert curve, each block is asked for once. An error
    reaches all who wait now and is not kept. A request that nobody waits for any more is cancelled.
    `sender` tries again itself: what is raised here is final for the block.
    A tile outside of the declared bounds is answered `outside` without a request.

    The names and headers of a tile (`ask`) are its picture's, whose age is by `clock`.
    """

    def __init__(
        self,
        ask: MapRequest,
        sender: Sender,
        info: SourceInfo,
        *,
        frames: Frames,
        clock: Clock,
        headers: Headers = (),
        timeouts: Timeouts | None = WMS_TIMEOUTS,
    ) -> None:
        self._ask = ask
        self._sender = sender
        self._info = info
        self._frames = frames
        self._clock = clock
        self._headers = headers
        self._timeouts = timeouts
        self._flights: dict[tuple[Block, Validators], _Flight] = {}
        self._kept = KeptPictures[Block]()

    @property
    def info(self) -> SourceInfo:
        return self._info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """One tile. Raises TransferError and DataError from the sender or the cutting; BusyError."""
        return (await self.ask(tile_id)).told

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard:
        """See `Askable.ask`. Raises as `get`."""
        side = 1 << tile_id.z if 0 <= tile_id.z <= ZOOM_MAX else 0
        if not (0 <= tile_id.x < side and 0 <= tile_id.y < side):
            return Heard(NoTile(tile_id, "out_of_range"))
        if not _overlaps(tile_id.bounds_deg, self._info.bounds_deg):
            return Heard(NoTile(tile_id, "outside"))
        block = self.block_of(tile_id)
        kept = self._kept.find(block)
        if kept is None or not (kept.bodies or kept.confirmed == named):
            return await self._ask_anew(tile_id, block, named)
        age_s = self._clock.now_s() - kept.asked_s
        anew = partial(self._ask_anew, tile_id, block, named)
        return Heard(_part(kept, tile_id, block, named), kept.headers, age_s, anew)

    async def _ask_anew(self, tile_id: TileId, block: Block, named: Validators) -> Heard:
        said = await self._shared(block, named)
        return Heard(_part(said, tile_id, block, named), said.headers)

    def block_of(self, tile_id: TileId) -> Block:
        """The block a tile is asked for with."""
        side = self._frames.side(tile_id.z)
        return Block(tile_id.z, tile_id.x - tile_id.x % side, tile_id.y - tile_id.y % side, side)

    def request(self, block: Block, named: Validators = UNNAMED) -> Request:
        """What is sent for a block."""
        picture = self._frames.picture(block)
        return Request(
            self._ask.url(picture.box, picture.width_px, picture.height_px),
            headers=(*self._headers, *named.condition),
            lane_class="wms",
            body_bytes_max=PICTURE_BYTES_MAX,
            timeouts=self._timeouts,
        )

    async def _shared(self, block: Block, named: Validators) -> Said:
        key = block, named
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fetch(block, named)))
            taken = flight

            def landed(task: asyncio.Task[Any]) -> None:
                if self._flights.get(key) is taken:
                    del self._flights[key]
                if not task.cancelled():
                    # Marks the error as seen: all who waited may have left in this very turn of the loop.
                    task.exception()

            flight.task.add_done_callback(landed)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if flight.task.cancelled() and asker is not None and not asker.cancelling():
                raise BusyError("the fetch of this tile was given up; ask again") from None
            raise
        except TilehaulError as error:
            # Each tile's own: who catches it writes its attempts into it.
            raise _copy_of(error) from None
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.task.cancel()

    async def _fetch(self, block: Block, named: Validators) -> Said:
        asked_s = self._clock.now_s()
        response = await self._sender.send(self.request(block, named))
        said = Said(response.headers, asked_s)
        if response.status in (204, 404, 410):
            self._kept.forget(block)
            return said._replace(absent=f"http_{response.status}")
        if response.status == 304 and named.condition:
            said = said._replace(headers=named.kept_by(response.headers), confirmed=named)
            kept = self._kept.find(block)
            if kept is not None and Validators.of(kept.headers) == named:
                said = said._replace(bodies=kept.bodies, media_type=kept.media_type)
            return self._keep(block, said)
        if response.status not in (200, 206):
            name = self._info.name
            raise BrokenError(
                f"{name} answered with HTTP {response.status}", url=name, cause=f"http_{response.status}"
            )
        try:
            cut = await asyncio.to_thread(self._frames.cut, response.body, block)
        except DataError as error:
            raise DataError(
                f"{self._info.name}: {error}", cause=error.cause, url=self._info.name, head=error.head
            ) from error
        said = said._replace(bodies=cut, media_type=response.media_type or self._info.media_type)
        return self._keep(block, said)

    def _keep(self, block: Block, said: Said) -> Said:
        if block.side > 1:
            self._kept.keep(block, said)
        return said


def _part(said: Said, tile_id: TileId, block: Block, named: Validators) -> Tile | NoTile | None:
    """What was said of the block, of one tile of it; None: what is `named` is current."""
    if said.absent:
        return NoTile(tile_id, said.absent)
    if said.confirmed == named != UNNAMED:
        return None
    place = (tile_id.y - block.row) * block.side + tile_id.x - block.column
    return Tile(tile_id, said.bodies[place], said.media_type)


def meta_within(meta: int, buffer_px: int, side_px_max: int) -> tuple[int, int]:
    """Tiles a side and buffer of a picture that is at most `side_px_max` a side; the buffer goes last."""
    while meta > 1 and meta * TILE_PX + 2 * buffer_px > side_px_max:
        meta //= 2
    return meta, buffer_px if meta * TILE_PX + 2 * buffer_px <= side_px_max else 0


def _overlaps(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _copy_of(error: TilehaulError) -> TilehaulError:
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    return copied
