"""A worker process of `tilehaul serve --workers N`, started by `cli/workers.py`; not for people."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

from tilehaul.cli import exit_codes
from tilehaul.cli.common import run_async
from tilehaul.cli.logs import LogSettings, set_up_log
from tilehaul.cli.serving import Process, Serving
from tilehaul.errors import TilehaulError
from tilehaul.net.clock import SystemClock
from tilehaul.policy.share import Share
from tilehaul.server.admin import wanted_of
from tilehaul.server.other_workers import OtherWorkers
from tilehaul.server.worker_link import (
    Answered,
    Asked,
    Begin,
    Drop,
    Failed,
    Held,
    Hold,
    Leave,
    Link,
    Prepare,
    Prepared,
    Reply,
    Take,
    Taken,
    Told,
    ToParent,
    ToWorker,
    Up,
    worker_end,
)

# What a worker that is killed has counted since it told last is lost.
TELL_EVERY_S = 1.0


async def work(channel: socket.socket, listener: socket.socket) -> int:
    """Serve until told to leave, or the parent is gone. Returns the exit code."""
    link = await worker_end(channel)
    begin = await link.receive()
    if not isinstance(begin, Begin):
        return exit_codes.USAGE
    if begin.log_level:
        set_up_log(LogSettings(begin.log_level, begin.log_json))
    worker = Worker(link, begin, listener)
    code = await worker.run()
    await link.aclose()
    return code


class Worker:
    """Answers requests, and the parent."""

    def __init__(self, link: Link[ToWorker, ToParent], begin: Begin, listener: socket.socket) -> None:
        self._link = link
        self._others = OtherWorkers(link)
        self._serving = Serving(
            begin.settings,
            Process(
                Share(begin.index, begin.count),
                listener,
                self._others,
                self._on_held,
                SystemClock().now_s() - begin.age_s,
            ),
        )
        self._leave, self._hurry = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told_to_leave)
        try:
            await self._serving.start()
        except TilehaulError as error:
            self._link.send(Failed(str(error), exit_codes.code_of_error(error)))
            return exit_codes.code_of_error(error)
        self._link.send(Up(self._serving.layers, self._serving.notes))
        listening = asyncio.create_task(self._listen())
        telling = asyncio.create_task(self._tell())
        try:
            await self._leave.wait()
            # Whoever asks another worker meanwhile is still answered.
            await self._serving.stop(self._hurry)
        finally:
            telling.cancel()
            self._link.send(Told(self._serving.own_figures()))
            listening.cancel()
            await asyncio.gather(listening, telling, *self._tasks, return_exceptions=True)
        return exit_codes.COMPLETE

    async def _listen(self) -> None:
        while (message := await self._link.receive()) is not None:
            if isinstance(message, Answered):
                self._others.on_answer(message)
            elif isinstance(message, Asked) and not message.layer:
                self._link.send(Reply(message.number, self._serving.own_figures()))
            elif isinstance(message, Hold):
                self._serving.hold(message.lane, message.delay_s)
            elif isinstance(message, Leave):
                self._told_to_leave()
            else:
                # What takes its time must not keep the others waiting.
                task = asyncio.create_task(self._obey(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        self._told_to_leave()

    def _told_to_leave(self) -> None:
        """The second time: at once, without the notice."""
        if self._leave.is_set():
            self._hurry.set()
        self._leave.set()

    def _on_held(self, lane: str, delay_s: float) -> None:
        self._link.send(Held(lane, delay_s))

    async def _obey(self, message: ToWorker) -> None:
        if isinstance(message, Asked):
            forgotten = 0
            with contextlib.suppress(TilehaulError):
                wanted = wanted_of(bbox=message.bbox, zooms=message.zooms)
                forgotten = await self._serving.forget(message.layer, wanted)
            self._link.send(Reply(message.number, forgotten=forgotten))
        elif isinstance(message, Prepare):
            try:
                await self._serving.prepare(message.settings)
                self._link.send(Prepared())
            except TilehaulError as error:
                self._link.send(Prepared(str(error)))
        elif isinstance(message, Take):
            await self._serving.take()
            self._link.send(Taken(self._serving.layers))
        elif isinstance(message, Drop):
            await self._serving.drop()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            news = self._serving.news()
            if news is not None:
                self._link.send(Told(news))


def main() -> int:
    """`python -m tilehaul.cli.worker CHANNEL LISTENER`: numbers of two open sockets."""
    channel, listener = (socket.socket(fileno=int(word)) for word in sys.argv[1:3])
    for one in (channel, listener):
        os.set_inheritable(one.fileno(), False)
    return run_async(lambda: work(channel, listener))


if __name__ == "__main__":
    sys.exit(main())
