"""Many tiles in one answer: asked for at once, each with an outcome of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

from tilehaul.errors import PlanError, TilehaulError, TimedOutError
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import Reply, TileRequest, serve_tile

# Addresses in one batch: a screen of 256-pixel tiles and its edge.
BATCH_TILES_MAX = 100
# One tile or a whole batch is answered by then; what has not come is an error of its own.
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What became of one address, as it was asked.

    `reply` is as the tile's own address answers, 200 or what the layer says of missing tiles. Without one
    `error` says why.
    """

    address: str
    reply: Reply | None = None
    error: TilehaulError | None = None


async def serve_batch(
    requests: Sequence[tuple[str, TileRequest | PlanError]],
    layer: Layer,
    *,
    deadline_s: float = DEADLINE_S,
    ended: Callable[[object], None] = lambda _: None,
) -> AsyncGenerator[BatchItem, None]:
    """The items of a batch as they come: one for each address, in no order.

    A tile that several addresses name is fetched once (`CoalescedSource`). What has not come after
    `deadline_s` seconds fails with TimedOutError. Who stops reading cancels what is under way.

    Args:
        requests: Different addresses, each with what it asks for, or why it asks for nothing.
        ended: Told of each tile that is waited for no more, whether its item has been taken or not.
    """
    # Vector tiles go out unzipped: the encodings of a batch have no place to say otherwise.
    tasks = {
        asyncio.create_task(serve_tile(replace(asked, accepts_gzip=False, if_none_match=""), layer)): address
        for address, asked in requests
        if isinstance(asked, TileRequest)
    }
    for task in tasks:
        task.add_done_callback(ended)
    try:
        for address, asked in requests:
            if isinstance(asked, PlanError):
                yield BatchItem(address, error=asked)
        pending = set(tasks)
        ends_s = asyncio.get_running_loop().time() + deadline_s
        while pending:
            left_s = max(ends_s - asyncio.get_running_loop().time(), 0.0)
            done, pending = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                yield _item(tasks[task], task)
        for task in pending:
            yield BatchItem(tasks[task], error=late_error(deadline_s))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def late_error(deadline_s: float) -> TimedOutError:
    """The service's own deadline has come."""
    return TimedOutError(f"not answered within {deadline_s:g} s", phase="total")


def _item(address: str, task: "asyncio.Task[Reply]") -> BatchItem:
    error = task.exception()
    if error is None:
        return BatchItem(address, reply=task.result())
    if not isinstance(error, TilehaulError):
        raise error
    return BatchItem(address, error=error)
