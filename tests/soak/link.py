"""The fault proxy in a thread of its own: the jobs of a soak run come and go, it stays."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from soak.schedule import Schedule
from tilehaul.lab.fault_proxy import FaultProxy
from tilehaul.lab.link_faults import LinkPlan

THREAD_S_MAX = 30.0
T = TypeVar("T")


class ProxyThread:
    """A `FaultProxy` before `upstream`, with the schedule's faults."""

    def __init__(self, upstream: str, schedule: Schedule) -> None:
        self._proxy = FaultProxy(upstream, LinkPlan.of(*schedule.link, seed=schedule.server.seed))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="soak-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ask(self._proxy.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ask(lambda: self._proxy.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(THREAD_S_MAX)
        self._loop.close()

    def url_of(self, url: str) -> str:
        return self._proxy.url_of(url)

    def by_fault(self) -> dict[str, int]:
        return self._proxy.stats().by_fault

    def repair(self) -> None:
        """Nothing is wrong from now on."""
        self._ask(lambda: self._proxy.use(LinkPlan()))

    def _ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(question(), self._loop).result(THREAD_S_MAX)
