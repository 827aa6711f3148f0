"""Between workers and writer: full batches at once, the rest in time, back-pressure by count and bytes."""

import asyncio

import pytest

from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.outbox import (
    COMMIT_BYTES,
    COMMIT_TILES,
    MIB,
    WAITING_BYTES_MAX,
    WAITING_TILES_MAX,
    Outbox,
)
from tilehaul.ports.tile import NoTile, Tile


def tile(number: int, size: int = 10) -> Tile:
    return Tile(TileId(20, number, 0), bytes(size), "image/png")


async def fill(outbox: Outbox, count: int, size: int = 10) -> None:
    for number in range(count):
        await outbox.put(tile(number, size))


async def test_batch_that_is_full_by_count_is_given_at_once() -> None:
    outbox = Outbox()
    await fill(outbox, COMMIT_TILES)
    async with asyncio.timeout(0.1):  # less than COMMIT_S
        assert len(await outbox.take()) == COMMIT_TILES


async def test_batch_that_is_full_by_bytes_is_given_at_once() -> None:
    """16 MiB in two tiles: nobody waits for five hundred."""
    outbox = Outbox()
    await fill(outbox, 2, COMMIT_BYTES // 2)
    async with asyncio.timeout(0.1):
        assert len(await outbox.take()) == 2


async def test_few_are_given_after_a_moment() -> None:
    outbox = Outbox()
    await outbox.put(NoTile(TileId(0, 0, 0)))
    assert len(await outbox.take()) == 1


@pytest.mark.parametrize(("size", "most"), [(10, WAITING_TILES_MAX), (MIB, WAITING_BYTES_MAX // MIB)])
async def test_workers_wait_while_too_much_is_waiting(size: int, most: int) -> None:
    """The disk's pace becomes the network's; one take makes room again."""
    outbox = Outbox()
    filling = asyncio.create_task(fill(outbox, most + 5, size))
    await asyncio.sleep(0.02)
    assert not filling.done()
    assert len(await outbox.take()) == most
    await asyncio.sleep(0.02)
    assert filling.done()
    outbox.close()
    assert len(await outbox.take()) == 5
    assert await outbox.take() == []


async def test_closed_and_empty_says_so_at_once() -> None:
    outbox = Outbox()
    outbox.close()
    assert await outbox.take() == []
