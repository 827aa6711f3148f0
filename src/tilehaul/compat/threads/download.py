"""One tile by its address, from any thread, over connections that the whole process shares."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable

from tilehaul.config.sending import Sending
from tilehaul.errors import TilehaulError, TimedOutError
from tilehaul.net.loop_thread import LoopThread
from tilehaul.ports.wire import Response
from tilehaul.wiring.fetching import Fetcher, Patience, open_fetcher

_log = logging.getLogger(__name__)

TIMEOUT_S = 4.0
# The old numbers: three attempts, waits from half a second to five.
RETRIES = 2
DELAY_S_FIRST = 0.5
DELAY_S_MAX = 5.0
# A call, with its retries and waits, ends within so many timeouts: 28 s by default, which is less than the
# 30 s that `CancellableThreadPool` gives a task.
CALL_TIMEOUTS = 7
# To one host at once, from all threads together.
CONCURRENCY = 32


def download_tile(url: str, user_agent: str, timeout: float = TIMEOUT_S) -> bytes | None:
    """Download one tile, verified. Tried again as the answer deserves; waits where the upstream asks for it.

    Usable from several threads at once: they share connections and, for each host, one limit, one gate and
    one breaker: while a host fails, it is left alone, and BusyError says so at once. The first call starts
    one thread, which ends with the program (or `close_connections`).

    Args:
        url: http or https. It may be on a private network; where it redirects to may not.
        user_agent: Who you are: `my-addon/1.0 (me@example.com)`. Sent in front of tilehaul's own name.
        timeout: Seconds, > 0. An attempt without progress for so long is ended, and one that trickles after
            four times as long; the whole call ends after CALL_TIMEOUTS times as long.

    Returns:
        The tile; None when the source says that there is none (404, 410, 204).

    Raises:
        ValueError: A bad timeout or User-Agent.
        ConfigError: Not an http or https address.
        PlanError: The host asks every client for a contact, and `user_agent` is empty.
        TransferError, DataError, BusyError: It did not come. Not worth a retry, or tried RETRIES times more.
    """
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be above 0 seconds, not {timeout}")
    # The upstream's wait is bounded by the call itself.
    patience = Patience(timeout, RETRIES, DELAY_S_FIRST, DELAY_S_MAX, CALL_TIMEOUTS * timeout)
    contact = _checked(user_agent)
    engine = _shared.engine()
    response = engine.thread.run(_get(engine.fetcher, url, patience, contact))
    return response.body if response.status in (200, 206) else None


def download_tile_safe(
    url: str,
    user_agent: str,
    timeout: float = TIMEOUT_S,
    callback_on_error: Callable[[str], object] | None = None,
) -> tuple[bool, bytes | None, str | None]:
    """As `download_tile`, and raises nothing.

    Args:
        url, user_agent, timeout: As `download_tile`.
        callback_on_error: Called with the error's line. What it raises is logged and goes no further.

    Returns:
        `(True, data, None)`, where data is None when the source says that there is no such tile; or
        `(False, None, error)` with one line that says what happened.
    """
    try:
        return True, download_tile(url, user_agent, timeout), None
    except (TilehaulError, ValueError, TypeError) as error:
        text = str(error)
    if callback_on_error is not None:
        try:
            callback_on_error(text)
        except Exception:  # noqa: BLE001 - the caller was promised that nothing is raised
            _log.exception("callback_on_error failed")
    return False, None, text


def close_connections() -> None:
    """End the thread and the connections that `download_tile` keeps, as when an add-on is switched off.

    Downloads under way in other threads end with UnreachableError (cause `closed`). The next one opens
    everything anew. Nobody has to call this: the program's end does.
    """
    _shared.close()


async def _get(fetcher: Fetcher, url: str, patience: Patience, contact: str) -> Response:
    # Theirs first, as the more significant product (RFC 9110, 10.1.5), then ours.
    headers = (("User-Agent", f"{contact} {Sending().user_agent()}".lstrip()),)
    limit_s = CALL_TIMEOUTS * patience.timeout_s
    try:
        async with asyncio.timeout(limit_s):
            return await fetcher.get(url, patience, headers=headers, contact=contact)
    except TimeoutError as error:
        text = f"given up after {limit_s:g} s, retries and waits included"
        raise TimedOutError(text, phase="total") from error


def _checked(user_agent: str) -> str:
    name = user_agent.strip()
    if not all(32 <= ord(char) < 127 for char in name):
        raise ValueError("user_agent: printable ASCII only, as in my-addon/1.0 (me@example.com)")
    return name


class _Engine:
    """One thread with its loop, and the connections."""

    def __init__(self) -> None:
        self.thread = LoopThread()
        try:
            self.fetcher = self.thread.enter(open_fetcher(Sending(concurrency=CONCURRENCY)))
        except BaseException:
            self.thread.close()
            raise


class _Shared:
    """The process's engine, made when it is first needed and closed by `LoopThread` at the program's end.

    The one piece of global state: the old functions have no object that connections could belong to, and
    connections and breakers that every call makes anew are of no use.
    """

    def __init__(self) -> None:
        self._engine: _Engine | None = None
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            # A child of fork has the parent's engine without its thread, and perhaps its lock held.
            os.register_at_fork(after_in_child=self._forget)

    def engine(self) -> _Engine:
        with self._lock:
            if self._engine is None:
                self._engine = _Engine()
            return self._engine

    def close(self) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.thread.close()

    def _forget(self) -> None:
        self._engine = None
        self._lock = threading.Lock()


_shared = _Shared()
