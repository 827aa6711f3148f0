"""A wire that answers from a script and counts what was asked."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tilehaul.policy.budget import RetryBudget
from tilehaul.ports.wire import Request, Response, Sender

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def answer(status: int = 200, body: bytes = PNG, **headers: str) -> Response:
    """A response; keyword `content_type` becomes the header `content-type`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if status == 200:
        named.setdefault("content-type", "image/png")
        named.setdefault("content-length", str(len(body)))
    return Response(url="", status=status, headers=named, body=body, ttfb_s=0.01, total_s=0.02)


Step = Response | Exception


@dataclass
class ScriptedWire:
    """Answers the steps in order, then `then` for ever."""

    steps: list[Step] = field(default_factory=list)
    then: Step | Callable[[Request], Step] = field(default_factory=answer)
    requests: list[Request] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        if self.steps:
            step: Step = self.steps.pop(0)
        else:
            step = self.then(request) if callable(self.then) else self.then
        if isinstance(step, Exception):
            raise step
        return step


class Unlaned:
    """A sender without a lane, for tests of what stands around one: its budget is one for all."""

    def __init__(self, inner: Sender) -> None:
        self._inner = inner
        self._budget = RetryBudget()

    async def send(self, request: Request) -> Response:
        return await self._inner.send(request)

    def budget_of(self, _request: Request) -> RetryBudget:
        return self._budget
