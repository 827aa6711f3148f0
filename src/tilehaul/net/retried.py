"""Trying again: the outermost wrapper of the wire."""

from dataclasses import dataclass

from tilehaul.errors import DataError, ThrottledError, TransferError
from tilehaul.policy.retry import RetryRule, is_mistyped
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.wire import Request, Response, Sender


@dataclass(frozen=True, slots=True)
class RetriedSender:
    """Repeats failed attempts as the rule says. Waits hold no permit.

    Push-back costs no attempt and is not slept off here: the lane's gate holds the next attempt.
    An error that is raised carries `.attempts`.
    """

    inner: Sender
    rule: RetryRule
    clock: Clock
    luck: Luck
    tally: Tally

    async def send(self, request: Request) -> Response:
        try:
            return await self.inner.send(request)
        except (TransferError, DataError) as error:
            return await self._again(request, error)

    async def _again(self, request: Request, error: TransferError | DataError) -> Response:
        """All attempts after the first: apart, so that the common case carries none of it."""
        attempts = 1
        counted = 0
        mistyped = 0
        begun_s = self.clock.now_s()
        while True:
            if isinstance(error, ThrottledError):
                asked_s = error.retry_after_s or 0.0
                waited_s = self.clock.now_s() - begun_s
                delay_s = 0.0 if self.rule.patience_s(waited_s) > asked_s else None
            else:
                counted += 1
                mistyped += is_mistyped(error)
                delay_s = self.rule.delay_s(error, counted, self.luck(), mistyped=mistyped)
            if delay_s is None:
                error.attempts = attempts
                raise error
            if delay_s > 0.0:
                await self.clock.sleep(delay_s)
            attempts += 1
            self.tally.retried += 1
            try:
                return await self.inner.send(request)
            except (TransferError, DataError) as next_error:
                error = next_error
