"""What every lane is told when it is made."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tilehaul.policy.limit import AdaptiveLimit, FixedLimit, Limit
from tilehaul.policy.limit_rule import lane_most, limit_rule
from tilehaul.policy.providers import Provider
from tilehaul.policy.rate import Rate, RateRule
from tilehaul.policy.share import WHOLE, Share
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.events import TellLane

# A shorter wait is not worth the way to the heap and back.
HAND_BACK_S = 5.0
# An upstream that has never answered is waited for until its breaker has opened so often: a restart is
# waited out, a wrong address is told within seconds and not after `--max-wait`.
OPENINGS_UNANSWERED_MAX = 4


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What the user says of every lane.

    Args:
        limit: Attempts under way at once are never more, in [1, LIMIT_MAX] (`--concurrency`). None: what the
            lane's class has as its maximum (`CLASS_LIMITS`), or FIXED_DEFAULT where the limit is fixed.
        start: What an adaptive limit begins with, >= 1, at most `limit`; None: as the lane's class says.
        wait_s_max: A lane that is held for longer than this answers ThrottledError at once.
        adaptive: The limit finds itself, up to `limit`. False: it is `limit`, always (`--fixed`). A fixed
            lane does not learn how fast its upstream is when idle, so only failures open its breaker, never
            slow answers.
        rate_per_s: At most so many requests a second, evenly spaced, > 0; None: no such bound.
        pause: What happens while the breaker is open. True: who enters waits (a job, where nothing
            is lost by waiting), unless the upstream has never answered (see `net/lane.py`).
            False: BusyError (a service, where people wait).
        hand_back: Who would wait for `HAND_BACK_S` or longer, at the gate or for an open breaker, gets
            BusyError instead and waits elsewhere: on a job's heap, so that its workers serve other hosts.
        share: Of all this, where several processes ask the same upstreams; see `of_this_process`.

    Raises ConfigError when `limit` or `rate_per_s` is out of range.
    """

    limit: int | None = None
    wait_s_max: float = 1800.0
    adaptive: bool = True
    rate_per_s: float | None = None
    pause: bool = True
    hand_back: bool = False
    start: int | None = None
    share: Share = WHOLE

    def __post_init__(self) -> None:
        # A mistake is told when the settings are made, not at the first tile.
        self.new_limit("tile")
        self.new_rate()

    def within(self, provider: Provider | None, lane_class: str) -> "LaneSettings":
        """These settings, but no more than the provider permits in a lane of this class."""
        if provider is None:
            return self
        rates = [rate for rate in (self.rate_per_s, provider.rate_per_s) if rate is not None]
        return replace(
            self,
            limit=self.limit
            if provider.in_flight_max is None
            else min(self.most(lane_class), provider.in_flight_max),
            rate_per_s=min(rates, default=None),
        )

    def of_this_process(self, lane_class: str) -> "LaneSettings":
        """These settings with `share` taken of limit and rate."""
        if self.share.count == 1:
            return self
        return replace(
            self,
            limit=self.share.of_permits(self.most(lane_class)),
            rate_per_s=None if self.rate_per_s is None else self.share.of_rate(self.rate_per_s),
            share=WHOLE,
        )

    def most(self, lane_class: str) -> int:
        """Attempts under way at once are never more in a lane of this class."""
        return lane_most(lane_class, cap=self.limit, adaptive=self.adaptive)

    def new_limit(self, lane_class: str) -> Limit:
        if not self.adaptive:
            return FixedLimit(self.most(lane_class))
        return AdaptiveLimit(limit_rule(lane_class, cap=self.limit, start=self.start))

    def new_rate(self) -> Rate | None:
        return None if self.rate_per_s is None else Rate(RateRule(self.rate_per_s))


@dataclass(frozen=True, slots=True)
class LaneTools:
    """What lanes share. `tell` is told when a lane is held, or held for longer, and when it changes.

    `held` is told a lane's name and the seconds, whenever an upstream asks it to wait, or for longer.
    """

    clock: Clock
    luck: Luck
    tally: Tally
    tell: TellLane | None = None
    held: Callable[[str, float], None] | None = None
