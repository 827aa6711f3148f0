"""Work for a client that may go away."""

import asyncio
from collections.abc import Coroutine

from starlette.requests import Request

from tilehaul.jobs.batch import late_error
from tilehaul.jobs.serve_tile import Reply

# nginx's number for "the client closed the connection". Nobody receives it.
STATUS_CLIENT_GONE = 499


async def while_connected(
    request: Request, work: Coroutine[None, None, Reply], *, deadline_s: float | None = None
) -> Reply:
    """The reply of `work`; when the client goes away first, `work` is cancelled.

    Maps leave most tiles of a fast zoom unread. Without this, each of them would still be fetched.

    Raises:
        TimedOutError: There was no reply after `deadline_s` seconds; `work` is cancelled.
        Whatever `work` raises.
    """
    asker = asyncio.current_task()
    assert asker is not None  # noqa: S101 - a request has one
    waiting = True

    def left(gone: "asyncio.Future[None]") -> None:
        if waiting and not gone.cancelled():
            asker.cancel()

    # The work stays in the asker's own task: another for each tile would cost as much as a hit.
    gone = asyncio.ensure_future(_disconnected(request))
    gone.add_done_callback(left)
    late = asyncio.timeout(deadline_s)
    try:
        async with late:
            return await work
    except TimeoutError:
        if deadline_s is None or not late.expired():
            raise
        raise late_error(deadline_s) from None
    except asyncio.CancelledError:
        if not gone.done() or gone.cancelled() or asker.uncancel():
            raise
        return Reply(STATUS_CLIENT_GONE, ())
    finally:
        waiting = False
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
