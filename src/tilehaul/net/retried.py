"""Trying again: the outermost wrapper of the wire."""

from dataclasses import dataclass
from typing import Protocol

from tilehaul.errors import BusyError, DataError, ThrottledError, TransferError
from tilehaul.policy.budget import RetryBudget
from tilehaul.policy.retry import RetryRule, is_mistyped
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.correlation import AT_HAND
from tilehaul.ports.wire import Request, Response, Sender


class BudgetedSender(Sender, Protocol):
    """A sender that knows what each request's lane can spend on retries."""

    def budget_of(self, request: Request) -> RetryBudget: ...


@dataclass(frozen=True, slots=True)
class RetriedSender:
    """Repeats failed attempts as the rule says. Waits hold no permit.

    Push-back costs no attempt and is not slept off here: the lane's gate holds the next attempt.
    Every other retry is paid from the lane's budget, and earns the next one when it succeeds. While the
    budget is empty the item waits, which costs no attempt, for at most `rule.wait_s_max` in all.
    Nothing is repeated while a stale answer is at hand (`correlation.AT_HAND`). An error that is raised
    carries `.attempts`.
    """

    inner: BudgetedSender
    rule: RetryRule
    clock: Clock
    luck: Luck
    tally: Tally

    async def send(self, request: Request) -> Response:
        try:
            return await self.inner.send(request)
        except (TransferError, DataError) as error:
            if AT_HAND.get():
                raise
            return await self._again(request, error)

    async def _again(self, request: Request, error: TransferError | DataError) -> Response:
        """All attempts after the first: apart, so that the common case carries none of it."""
        attempts = 1
        counted = probes = 0
        mistyped = 0
        begun_s = self.clock.now_s()
        while True:
            if isinstance(error, ThrottledError):
                asked_s = error.retry_after_s or 0.0
                waited_s = self.clock.now_s() - begun_s
                delay_s = 0.0 if self.rule.patience_s(waited_s) > asked_s else None
            else:
                mistyped += is_mistyped(error)
                if error.probe and probes < self.rule.attempts_max - 1:
                    # As in a job (`jobs/retries.py`): what a probe meets says more of the upstream.
                    probes += 1
                else:
                    counted += 1
                delay_s = self.rule.delay_s(error, max(1, counted), self.luck(), mistyped=mistyped)
            if delay_s is not None and delay_s > 0.0:
                await self.clock.sleep(delay_s)
            if delay_s is None or not await self._paid(request, error, begun_s):
                error.attempts = attempts
                raise error
            attempts += 1
            self.tally.retried += 1
            try:
                response = await self.inner.send(request)
            except BusyError:
                # Why the first attempts failed says more than that there will be no other.
                error.attempts = attempts - 1
                raise error from None
            except (TransferError, DataError) as next_error:
                error = next_error
            else:
                if not isinstance(error, ThrottledError):
                    self.inner.budget_of(request).refund()
                return response

    async def _paid(self, request: Request, error: TransferError | DataError, begun_s: float) -> bool:
        """Wait until the lane can afford the retry. False: that takes longer than an item waits."""
        if isinstance(error, ThrottledError):
            return True
        budget = self.inner.budget_of(request)
        while not budget.spend(now_s := self.clock.now_s()):
            wait_s = budget.wait_s(now_s)
            if self.rule.patience_s(now_s + wait_s - begun_s) <= 0.0:
                return False
            await self.clock.sleep(wait_s)
        return True
