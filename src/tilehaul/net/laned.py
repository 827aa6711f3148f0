"""Lanes: everything sent to one upstream goes through one of them."""

import logging

from tilehaul.errors import (
    BrokenError,
    BusyError,
    DataError,
    DeniedError,
    RefusedError,
    ThrottledError,
    TransferError,
)
from tilehaul.net.lane import Lane
from tilehaul.net.lane_pool import LanePool, lane_key
from tilehaul.net.lane_settings import LaneSettings, LaneTools
from tilehaul.policy.budget import RetryBudget
from tilehaul.policy.causes import cause_class
from tilehaul.policy.providers import NO_PROVIDERS, Providers
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.correlation import REPEATED
from tilehaul.ports.events import TellLane
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.wire import Request, Response, Sender

log = logging.getLogger(__name__)

# Refused by us, before anything was sent: says nothing of the upstream.
_REFUSED_HERE = frozenset({"refused_address", "refused_scheme"})


class LanedSender:
    """Takes one permit of the request's lane for each attempt, and tells the lane what came of it.

    A lane is scheme, host, port and class. `tell` is told each time a lane is held, or held for longer, and
    when its limit, gate or breaker has changed.
    A gate that stays closed beyond `wait_s_max` is not waited for: ThrottledError (cause `held`).
    A breaker that is open is waited for, or raises BusyError: see `LaneSettings.pause`.
    What `providers` say of a host lowers what `settings` allow; nothing raises it.
    `pool`: lanes that other senders use too, its owner's to close; None: lanes of its own.
    """

    def __init__(
        self,
        inner: Sender,
        settings: LaneSettings,
        *,
        clock: Clock,
        luck: Luck,
        tally: Tally,
        tell: TellLane | None = None,
        providers: Providers = NO_PROVIDERS,
        pool: LanePool | None = None,
    ) -> None:
        self._inner = inner
        self._settings = settings
        self._clock = clock
        self._tools = LaneTools(clock, luck, tally, tell)
        self._providers = providers
        self._pool = LanePool() if pool is None else pool
        self._owns_pool = pool is None
        # Those of the pool that were used here.
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._leaving = False

    async def send(self, request: Request) -> Response:
        if self._leaving:
            raise _ending()
        lane = self._lane_of(request)
        ticket = await lane.enter()
        # Asked for after a hold only; "before everything" is right for what was sent before the first.
        sent_s = self._clock.now_s() if lane.gate.until_s else 0.0
        try:
            response = await self._inner.send(request)
        except ThrottledError as error:
            lane.on_push_back(ticket, error.retry_after_s)
            self._note(lane, error)
            raise
        except (DeniedError, RefusedError) as error:
            if error.cause in _REFUSED_HERE:
                lane.on_neutral(ticket)
            else:
                lane.on_refusal(ticket)
                self._note(lane, error)
            raise
        except (TransferError, DataError) as error:
            error.probe = ticket.probe
            answered = isinstance(error, BrokenError | DataError)
            lane.on_failure(ticket, error.cause, answered=answered, repeated=answered and REPEATED.get())
            self._note(lane, error)
            raise
        except BaseException:
            lane.on_neutral(ticket)
            raise
        else:
            lane.on_success(ticket, response, sent_s)
            return response
        finally:
            lane.leave()

    def turn_away(self) -> None:
        """Send nothing more: who waits for a permit, and whoever comes, gets BusyError."""
        self._leaving = True
        for lane in self._lanes.values():
            lane.turn_away(_ending)

    def budget_of(self, request: Request) -> RetryBudget:
        """What the request's lane can spend on retries."""
        return self._lane_of(request).budget

    def snapshots(self) -> tuple[LaneSnapshot, ...]:
        """Every lane as it is now, in the order of their first use."""
        now_s = self._clock.now_s()
        return tuple(lane.view.snapshot(lane, now_s) for lane in self._lanes.values())

    async def aclose(self) -> None:
        """End the lanes' timers, unless others use them."""
        if self._owns_pool:
            await self._pool.aclose()

    def _note(self, lane: Lane, error: TransferError | DataError) -> None:
        """Count a failed attempt, tell what it has changed, and log it."""
        now_s = self._clock.now_s()
        kind = cause_class(error)
        lane.stats.on_failure(now_s, kind)
        lane.look(now_s)
        if log.isEnabledFor(logging.DEBUG):
            facts = {"lane": lane.name, "cause": error.cause, "cause_class": kind, "url": error.url}
            log.debug("an attempt failed: %s", error, extra={"facts": facts})

    def _lane_of(self, request: Request) -> Lane:
        key = lane_key(request)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._pool.lane_of(request, self._settings, self._tools, self._providers)
            self._lanes[key] = lane
        return lane


def _ending() -> BusyError:
    return BusyError("the job ends: nothing more is sent")
