"""A worker's way to the other workers: through the parent."""

import asyncio
from itertools import count

from tilehaul.server.figures import OthersFigures
from tilehaul.server.switchboard import FIGURES_S_MAX, FORGET_S_MAX
from tilehaul.server.worker_figures import WorkerFigures
from tilehaul.server.worker_link import Answered, Ask, Link, ToParent, ToWorker

# The parent keeps its own deadlines; this is for one that does not answer at all.
SPARE_S = 0.25


class OtherWorkers:
    """See `figures.Others`. `on_answer` is told what the parent answers."""

    def __init__(self, link: Link[ToWorker, ToParent]) -> None:
        self._link = link
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        self._last = OthersFigures()

    async def figures(self, own: WorkerFigures) -> OthersFigures:
        """What the parent says; when it does not, what it said last."""
        answer = await self._ask(Ask(next(self._numbers), figures=own), FIGURES_S_MAX + SPARE_S)
        if answer is not None and answer.figures is not None:
            self._last = answer.figures
        return self._last

    async def forget(self, layer: str, *, bbox: str | None, zooms: str | None) -> int:
        ask = Ask(next(self._numbers), layer=layer, bbox=bbox, zooms=zooms)
        answer = await self._ask(ask, FORGET_S_MAX + SPARE_S)
        return 0 if answer is None else answer.forgotten

    def on_answer(self, answer: Answered) -> None:
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _ask(self, ask: Ask, patience_s: float) -> Answered | None:
        waiting: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting[ask.number] = waiting
        try:
            if not self._link.send(ask):
                return None
            async with asyncio.timeout(patience_s):
                return await waiting
        except TimeoutError:
            return None
        finally:
            del self._waiting[ask.number]
