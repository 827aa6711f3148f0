"""Tiles that wait for their next attempt: they hold no worker, no permit and no coroutine.

Decides only; time is an argument. `jobs/feed.py` waits.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tilehaul.errors import BrokenError, BusyError, ConfigError, DataError, ThrottledError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.budget import RetryBudget
from tilehaul.policy.retry import RetryRule, is_mistyped, is_transient
from tilehaul.policy.retry_heap import WAITING_MAX, RetryHeap
from tilehaul.ports.clock import Luck
from tilehaul.ports.lane import Lanes
from tilehaul.ports.source import TileSource
from tilehaul.ports.tile import FailedTile

# How asking a source for one tile may fail; anything else ends the job.
Failure = TransferError | DataError | BusyError
F = TypeVar("F", bound=Failure)
# A push-back is waited for in the lane's gate. So long at least in any case: a source without a gate must
# not be asked in a circle.
PUSHED_BACK_S_MIN = 0.05


@dataclass(frozen=True, slots=True)
class Retrying:
    """How a job tries again.

    Args:
        rule: How often and how late.
        luck: Spreads the waits.
        budget_of: Who pays for the retry of a tile: the budget of its lane, which its successes fill.
        waiting_max: Tiles that may wait, more than the job has workers. At that many no new work is begun.
    """

    rule: RetryRule
    luck: Luck
    budget_of: Callable[[TileId], RetryBudget]
    waiting_max: int = WAITING_MAX


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Origin:
    """A source as a job sees it. `retrying` None: the source tries again itself, what it raises is final.

    `lanes` are those to the source, asked for the report. `turn_away` ends all waiting for leave to send: it
    is called when the job ends early.
    """

    source: TileSource
    retrying: Retrying | None = None
    lanes: Lanes = tuple
    turn_away: Callable[[], None] = _nothing


@dataclass(slots=True)
class Item:
    """One tile on its way, and what its attempts came to.

    `attempts` were made, `counted` of them used up (push-back uses none, nor do the first `probes`),
    `mistyped` brought a body of another kind. `pushed_back_s` is when the push-back it waits for began, None
    after other failures.
    """

    tile_id: TileId
    attempts: int = 0
    counted: int = 0
    probes: int = 0
    mistyped: int = 0
    pushed_back_s: float | None = None
    error: TransferError | DataError | None = None

    @property
    def answered_badly(self) -> bool:
        """Whether its last attempt was answered, with a failure of the upstream's or a damaged body."""
        return isinstance(self.error, BrokenError | DataError)


class Retries:
    """The waiting items of one job. A retry is paid when it is due; who cannot pay waits on."""

    def __init__(self, retrying: Retrying | None, *, workers: int) -> None:
        """Raises ConfigError when the workers alone could have more items in trouble than may wait."""
        waiting_max = WAITING_MAX if retrying is None else retrying.waiting_max
        if workers >= waiting_max:
            raise ConfigError(f"{workers} workers are too many: use fewer than {waiting_max}")
        self._retrying = retrying
        self._heap: RetryHeap[Item] = RetryHeap(waiting_max)
        self._workers = workers
        # Every worker may come back with an item: room is kept for that, so that the heap takes each.
        self._begin_max = waiting_max - workers
        self._failed_in_a_row = 0
        self._handed_back_in_a_row = 0
        self._unpaid: dict[RetryBudget, deque[Item]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def hold_new_work(self) -> bool:
        """Whether no new tile should be begun.

        Because as many wait as may; or because everything that was under way has failed. In an outage new
        tiles would only fail as well, unpaid: those that wait find out when it is over. The same while every
        lane hands back what it is given.
        """
        trouble = max(self._failed_in_a_row, self._handed_back_in_a_row)
        return self._count > self._begin_max or (self._count > 0 and trouble >= self._workers)

    def failed(self, item: Item, error: Failure, now_s: float) -> FailedTile | None:
        """One attempt has failed. None: the item waits here for another; else what became of it.

        BusyError is no attempt: nothing was sent. The error of a `FailedTile` has `.attempts` set.
        """
        if self._retrying is None:
            attempts = 0 if isinstance(error, BusyError) else max(1, error.attempts)
            return FailedTile(item.tile_id, alone(error), attempts)
        if isinstance(error, BusyError):
            if item.attempts and item.pushed_back_s is None:
                self._retrying.budget_of(item.tile_id).refund()
            if error.never_answered:
                return FailedTile(item.tile_id, alone(error), item.attempts)
            self._handed_back_in_a_row += 1
            self._wait(item, now_s + error.retry_after_s)
            return None
        item.attempts += 1
        error.attempts = item.attempts
        item.error = alone(error)
        delay_s = self._delay_s(self._retrying, item, error, now_s)
        if delay_s is None:
            return FailedTile(item.tile_id, error, item.attempts)
        self._wait(item, now_s + delay_s)
        return None

    def _wait(self, item: Item, due_s: float) -> None:
        self._heap.push(item, due_s)
        self._count += 1

    def came(self, item: Item) -> None:
        """An attempt has brought an answer. If it was paid for, it earns the next retry."""
        self._failed_in_a_row = self._handed_back_in_a_row = 0
        if item.attempts and item.pushed_back_s is None and self._retrying is not None:
            self._retrying.budget_of(item.tile_id).refund()

    def due(self, now_s: float) -> Item | None:
        """The next item that may be sent now, paid for; None when there is none yet."""
        if not self._count or self._retrying is None:
            return None
        for budget, items in self._unpaid.items():
            if items and budget.spend(now_s):
                self._count -= 1
                return items.popleft()
        while (item := self._heap.pop(now_s)) is not None:
            if item.pushed_back_s is None and not self._pays(self._retrying, item, now_s):
                continue
            self._count -= 1
            return item
        return None

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until `due` may have one, >= 0; None when nothing waits. A success may shorten it."""
        waits_s = [budget.wait_s(now_s) for budget, items in self._unpaid.items() if items]
        due_s = self._heap.next_due_s()
        if due_s is not None:
            waits_s.append(max(0.0, due_s - now_s))
        return min(waits_s, default=None)

    def _delay_s(
        self, retrying: Retrying, item: Item, error: TransferError | DataError, now_s: float
    ) -> float | None:
        rule = retrying.rule
        if isinstance(error, ThrottledError):
            asked_s = error.retry_after_s or 0.0
            if item.pushed_back_s is None:
                item.pushed_back_s = now_s
            if rule.patience_s(now_s - item.pushed_back_s) <= asked_s:
                return None
            return max(asked_s, PUSHED_BACK_S_MIN)
        item.pushed_back_s = None
        self._failed_in_a_row = self._failed_in_a_row + 1 if is_transient(error) else 0
        item.mistyped += is_mistyped(error)
        if error.probe and item.probes < rule.attempts_max - 1:
            # What a breaker's probe meets says more of the upstream than of this tile: an outage must not
            # kill the few that were sent to look. Not for ever: the last tile of a job may be the sick one.
            item.probes += 1
            return rule.delay_s(error, max(1, item.counted), retrying.luck(), mistyped=item.mistyped)
        item.counted += 1
        return rule.delay_s(error, item.counted, retrying.luck(), mistyped=item.mistyped)

    def _pays(self, retrying: Retrying, item: Item, now_s: float) -> bool:
        """Whether the item's lane pays now; else it stands in line for that. (`due` asks the lines first.)"""
        budget = retrying.budget_of(item.tile_id)
        if budget.spend(now_s):
            return True
        self._unpaid.setdefault(budget, deque()).append(item)
        return False


def alone(error: F) -> F:
    """The error without its traceback, whose frames hold bodies: ten thousand of them may wait."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error
