"""The parent's part in the figures of a service: it passes questions on, and remembers who has gone."""

import asyncio
from collections.abc import Sequence
from itertools import count

import msgspec

from tilehaul.server.figures import OthersFigures
from tilehaul.server.worker_figures import WorkerFigures, joined_figures
from tilehaul.server.worker_link import (
    Answered,
    Ask,
    Asked,
    Held,
    Hold,
    Link,
    Reply,
    Told,
    ToParent,
    ToWorker,
)

# Workers answer within a millisecond unless they are busy; whoever asks for figures is not kept longer.
FIGURES_S_MAX = 0.25
# Tiles of a whole layer on the disk: one walk over its rows.
FORGET_S_MAX = 30.0


class Switchboard:
    """Knows the workers that answer, by their index, and what each has counted.

    Args:
        figures_s_max: See FIGURES_S_MAX.
    """

    def __init__(self, figures_s_max: float = FIGURES_S_MAX) -> None:
        self._figures_s_max = figures_s_max
        self._links: dict[int, Link[ToParent, ToWorker]] = {}
        self._figures: dict[int, WorkerFigures] = {}
        self._ended = WorkerFigures()
        self._order: dict[str, list[str]] = {}
        self._numbers = count(1)
        self._waiting: dict[tuple[int, int], asyncio.Future[Reply | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def joined(self, index: int, link: Link[ToParent, ToWorker]) -> None:
        self._links[index] = link

    def left(self, index: int) -> None:
        """A worker has ended: what it counted is kept, as it told it last. Safe twice."""
        self._links.pop(index, None)
        figures = self._figures.pop(index, None)
        if figures is not None:
            self._ended = joined_figures([self._ended, figures.ended()])
        for (asked, _), waiting in self._waiting.items():
            if asked == index and not waiting.done():
                waiting.set_result(None)

    def on(self, index: int, message: Told | Ask | Reply | Held) -> None:
        """What a worker says to the others or of itself."""
        if isinstance(message, Told):
            self._note(index, message.figures)
        elif isinstance(message, Held):
            for other, link in self._links.items():
                if other != index:
                    link.send(Hold(message.lane, message.delay_s))
        elif isinstance(message, Reply):
            waiting = self._waiting.get((index, message.number))
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        else:
            task = asyncio.create_task(self._pass_on(index, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _note(self, index: int, figures: WorkerFigures) -> None:
        known = self._figures.get(index, WorkerFigures())
        layers = {**known.layers, **figures.layers}
        self._figures[index] = msgspec.structs.replace(figures, layers=layers)
        for name, layer in figures.layers.items():
            order = self._order.setdefault(name, [])
            order += [lane.name for lane in layer.lanes if lane.name not in order]

    async def _pass_on(self, asker: int, ask: Ask) -> None:
        if ask.figures is not None:
            self._note(asker, ask.figures)
        others = [index for index in self._links if index != asker]
        patience_s = FORGET_S_MAX if ask.layer else self._figures_s_max
        number = next(self._numbers)
        asked = Asked(number, ask.layer, ask.bbox, ask.zooms)
        replies = await asyncio.gather(*(self._ask_one(index, asked, patience_s) for index in others))
        answered = [reply for reply in replies if reply is not None]
        link = self._links.get(asker)
        if link is None:
            return
        if ask.layer:
            forgotten = max((reply.forgotten for reply in answered), default=0)
            link.send(Answered(ask.number, forgotten=forgotten))
        else:
            link.send(Answered(ask.number, self._told_to(asker, 1 + len(answered))))

    async def _ask_one(self, index: int, asked: Asked, patience_s: float) -> Reply | None:
        key = (index, asked.number)
        waiting: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = waiting
        try:
            link = self._links.get(index)
            if link is None or not link.send(asked):
                return None
            async with asyncio.timeout(patience_s):
                reply = await waiting
        except TimeoutError:
            return None
        finally:
            del self._waiting[key]
        if reply is not None and reply.figures is not None and index in self._links:
            self._note(index, reply.figures)
        return reply

    def _told_to(self, asker: int, answered: int) -> OthersFigures:
        others: Sequence[WorkerFigures] = [one for index, one in self._figures.items() if index != asker]
        order = {name: tuple(names) for name, names in self._order.items()}
        return OthersFigures(asker + 1, len(self._links), answered, tuple(others), self._ended, order)
