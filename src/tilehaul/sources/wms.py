"""Tiles of a WMS: one picture is asked for, and cut into many tiles."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from tilehaul.codec.wms_request import Box, MapRequest
from tilehaul.errors import BrokenError, BusyError, DataError, TilehaulError
from tilehaul.grid.mercator import HALF_WORLD_M
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import MIB, Request, Sender, Timeouts

TILE_PX = 256
# A picture of 4096 x 4096 px as PNG.
PICTURE_BYTES_MAX = 64 * MIB
# Tiles that were cut and not yet asked for: those of the last few pictures.
CUT_BYTES_MAX = 32 * MIB
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

    def __init__(self, task: asyncio.Task[tuple[tuple[bytes, ...], str] | str]) -> None:
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
    """

    def __init__(
        self,
        ask: MapRequest,
        sender: Sender,
        info: SourceInfo,
        *,
        frames: Frames,
        headers: Headers = (),
        timeouts: Timeouts | None = WMS_TIMEOUTS,
    ) -> None:
        self._ask = ask
        self._sender = sender
        self._info = info
        self._frames = frames
        self._headers = headers
        self._timeouts = timeouts
        self._flights: dict[Block, _Flight] = {}
        self._kept: OrderedDict[Block, tuple[tuple[bytes, ...], str]] = OrderedDict()
        self._kept_bytes = 0

    @property
    def info(self) -> SourceInfo:
        return self._info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """One tile. Raises TransferError and DataError from the sender or the cutting; BusyError."""
        side = 1 << tile_id.z if 0 <= tile_id.z <= ZOOM_MAX else 0
        if not (0 <= tile_id.x < side and 0 <= tile_id.y < side):
            return NoTile(tile_id, "out_of_range")
        if not _overlaps(tile_id.bounds_deg, self._info.bounds_deg):
            return NoTile(tile_id, "outside")
        block = self.block_of(tile_id)
        kept = self._kept.get(block)
        answer: tuple[tuple[bytes, ...], str] | str
        if kept is not None:
            self._kept.move_to_end(block)
            answer = kept
        else:
            answer = await self._shared(block)
        if isinstance(answer, str):
            return NoTile(tile_id, answer)
        bodies, media_type = answer
        place = (tile_id.y - block.row) * block.side + tile_id.x - block.column
        return Tile(tile_id, bodies[place], media_type)

    def block_of(self, tile_id: TileId) -> Block:
        """The block a tile is asked for with."""
        side = self._frames.side(tile_id.z)
        return Block(tile_id.z, tile_id.x - tile_id.x % side, tile_id.y - tile_id.y % side, side)

    def request(self, block: Block) -> Request:
        """What is sent for a block."""
        picture = self._frames.picture(block)
        return Request(
            self._ask.url(picture.box, picture.width_px, picture.height_px),
            headers=self._headers,
            lane_class="wms",
            body_bytes_max=PICTURE_BYTES_MAX,
            timeouts=self._timeouts,
        )

    async def _shared(self, block: Block) -> tuple[tuple[bytes, ...], str] | str:
        flight = self._flights.get(block)
        if flight is None:
            flight = self._flights[block] = _Flight(asyncio.create_task(self._fetch(block)))
            taken = flight

            def landed(task: asyncio.Task[Any]) -> None:
                if self._flights.get(block) is taken:
                    del self._flights[block]
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
                if self._flights.get(block) is flight:
                    del self._flights[block]
                flight.task.cancel()

    async def _fetch(self, block: Block) -> tuple[tuple[bytes, ...], str] | str:
        """The block's tiles and their media type, or why there are none."""
        request = self.request(block)
        response = await self._sender.send(request)
        if response.status in (204, 404, 410):
            return f"http_{response.status}"
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
        answer = (cut, response.media_type or self._info.media_type)
        if block.side > 1:
            self._keep(block, answer)
        return answer

    def _keep(self, block: Block, answer: tuple[tuple[bytes, ...], str]) -> None:
        self._kept[block] = answer
        self._kept_bytes += sum(map(len, answer[0]))
        while self._kept_bytes > CUT_BYTES_MAX and len(self._kept) > 1:
            _, (bodies, _) = self._kept.popitem(last=False)
            self._kept_bytes -= sum(map(len, bodies))


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
