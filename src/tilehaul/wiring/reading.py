"""A callback that watches a job: called in a thread of its own, so that the job never waits for it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tilehaul.jobs.mailbox import Mailbox
from tilehaul.ports.events import Event, Watch

log = logging.getLogger(__name__)

# When the job has ended its reader has this long to read the rest. One that hangs is left behind.
LAST_WORDS_S = 10.0


@dataclass(frozen=True, slots=True)
class Telling:
    """Where to tell events; both return at once.

    `job`: for the job itself; raises what the reader raised. `lane`: for what must not be interrupted, as a
    lane in the middle of handing out permits; never raises, the next event of the job will.
    """

    job: Watch
    lane: Watch


@asynccontextmanager
async def reading(watch: Watch | None, *, last_words_s: float | None = None) -> AsyncIterator[Telling]:
    """Tell `watch` events, for as long as a job runs.

    A `Mailbox` is told directly, and closed at the end. Anything else is called in a thread, one event after
    another; the end waits until it has seen the last, for at most `last_words_s` seconds (LAST_WORDS_S).

    Raises:
        BaseException: What `watch` raised, once: out of the next event of the job, else at the end.
    """
    if watch is None:
        yield Telling(_untold, _untold)
    elif isinstance(watch, Mailbox):
        try:
            yield Telling(watch, watch)
        finally:
            watch.close()
    else:
        reader = _Reader(watch)
        try:
            yield Telling(reader.tell, reader.mailbox)
        finally:
            await reader.end(LAST_WORDS_S if last_words_s is None else last_words_s)
        reader.complain()


class _Reader:
    """A thread that reads a mailbox to a callback."""

    def __init__(self, watch: Watch) -> None:
        self.mailbox = Mailbox()
        self._watch = watch
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        threading.Thread(target=self._read, name="tilehaul-events", daemon=True).start()

    def tell(self, event: Event) -> None:
        self.complain()
        self.mailbox(event)

    def complain(self) -> None:
        """Raise what the callback raised, unless that has been done."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def end(self, last_words_s: float) -> None:
        """Let the callback read what waits."""
        self.mailbox.close()
        try:
            async with asyncio.timeout(last_words_s):
                await self._ended.wait()
        except TimeoutError:
            log.warning("a job's watcher still has not returned after %.0f s: left behind", last_words_s)

    def _read(self) -> None:
        try:
            while (event := self.mailbox.take()) is not None:
                self._watch(event)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the job runs
            self._error = error
            # Nobody reads any more: nothing need be kept.
            self.mailbox.close()
        try:
            self._loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            pass  # left behind, and now its loop has gone


def _untold(_event: Event) -> None:
    pass
