"""One worker process, seen from the parent."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

from tilehaul.cli import exit_codes
from tilehaul.errors import BusyError, PlanError, StorageError
from tilehaul.server.worker_link import (
    Begin,
    Failed,
    Link,
    Prepare,
    Prepared,
    Take,
    Taken,
    ToParent,
    ToWorker,
    Up,
    parent_end,
)

# Layers that ask their services for capabilities take their time to open.
OPENING_S_MAX = 300.0

Answer = Up | Failed | Prepared | Taken
# What is for the switchboard; None when the worker has ended.
OnWord = Callable[[object], None]

_KINDS = {exit_codes.USAGE: PlanError, exit_codes.LOCAL_IO: StorageError}


class WorkerProcess:
    """A process that runs `cli/worker.py`. Made by `begin`.

    Args:
        on_word: Told what is no answer to the parent's own words; last of all None, when it has ended.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, link: Link[ToParent, ToWorker], on_word: OnWord
    ) -> None:
        self.link = link
        # See `Serving.notes`.
        self.notes: dict[str, str] = {}
        self._process = process
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen(on_word))

    @classmethod
    async def begin(cls, word: Begin, listener: socket.socket, on_word: OnWord) -> "WorkerProcess":
        """Start one, and wait until it answers requests.

        Raises PlanError, BusyError, StorageError: It cannot begin, and has ended; the message is its own.
        """
        try:
            process, channel = await _spawned(listener)
        except OSError as error:
            raise StorageError(f"no process can be started: {error.strerror or error}") from error
        worker = cls(process, await parent_end(channel), on_word)
        try:
            answer = await worker._ask(word)
            if isinstance(answer, Failed):
                raise _KINDS.get(answer.code, BusyError)(answer.message)
            if not isinstance(answer, Up):
                raise StorageError(f"worker {word.index + 1} ended while it was starting")
            worker.notes = answer.notes
        except BaseException:
            await worker.end(0.0)
            raise
        return worker

    @property
    def number(self) -> int:
        """The process's own, as the system knows it."""
        return self._process.pid

    async def ask(self, word: Prepare | Take) -> Prepared | Taken | None:
        """Say something and wait for the answer; None when the worker has ended."""
        answer = await self._ask(word)
        return answer if isinstance(answer, Prepared | Taken) else None

    async def ended(self) -> int:
        """Wait for the end. Returns its exit code, negative for a signal."""
        await asyncio.shield(self._listening)
        return await self._process.wait()

    async def end(self, patience_s: float) -> None:
        """Wait for the end for so long, then kill it."""
        try:
            async with asyncio.timeout(patience_s):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._listening
        await self.link.aclose()

    async def _ask(self, word: ToWorker) -> Answer | None:
        if not self.link.send(word):
            return None
        try:
            async with asyncio.timeout(OPENING_S_MAX):
                return await self._answers.get()
        except TimeoutError:
            return None

    async def _listen(self, on_word: OnWord) -> None:
        while (message := await self.link.receive()) is not None:
            if isinstance(message, Answer):
                self._answers.put_nowait(message)
            else:
                on_word(message)
        self._answers.put_nowait(None)
        on_word(None)


async def _spawned(listener: socket.socket) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """A process, and this end of its channel. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        numbers = (theirs.fileno(), listener.fileno())
        # -P: a module of the folder we happen to run in must not take the place of one of ours.
        command = (sys.executable, "-P", "-m", "tilehaul.cli.worker", *map(str, numbers))
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=numbers,
                # Ctrl-C is for the parent, who tells them.
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    return process, ours
