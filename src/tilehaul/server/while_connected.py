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
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, gone), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if deadline_s is not None and not gone.done():
            raise late_error(deadline_s)
        return Reply(STATUS_CLIENT_GONE, ())
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()
        # Both have ended before the request does: no task outlives it, no error goes unseen.
        await asyncio.gather(gone, working, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
