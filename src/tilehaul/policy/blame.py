"""Whether load is to blame for push-back.

A lane that is pushed back sends less. That helps where the upstream limits a rate. Where push-back comes by
the clock (a deploy, a neighbour's flood, a gateway that restarts every three seconds) it does not, and a lane
that goes on cutting ends at one request at a time for nothing.

The difference can be seen. What limits a rate lets at least as many requests of a slower sender through
before it pushes back: of a bucket that holds B after the wait and refills R a second, n = B + R T, and T
grows. So when a cut has slowed the lane down and push-back came after *fewer* good answers, it does not
follow load. It is obeyed as ever, for the gate is not asked; but neither limit nor pace is told.
"""

from math import inf

from tilehaul.policy.gate import Spell
from tilehaul.policy.limit import AdaptiveLimit
from tilehaul.policy.pace import Pace

# Fewer good answers than this between two holds are no evidence: then load is to blame. (With 10, a limit of
# 100/s without any burst was misjudged in 8 of 40 simulated runs; with 14 in none.)
ANSWERS_MIN = 14
# "Slower" and "fewer" are at most this share. A cut leaves 0.7 of the limit; the rest is growth and noise.
SLOWER_SHARE = 0.8
FEWER_SHARE = 0.8
# A hold shorter than this share of the one before refills a bucket less: two such spells say nothing.
HELD_SHARE = 0.9
# Spells further apart than this are not compared: an upstream changes.
APART_S_MAX = 60.0
# So long is push-back taken for unrelated to load, before it is judged anew; doubled each time that agrees.
UNRELATED_S_FIRST = 60.0
UNRELATED_S_MAX = 600.0
# It is judged anew at once when it came within this share of the time it took the slower lane, so often in a
# row.
SOONER_SHARE = 0.7
SOONER_MIN = 2


class Blame:
    """Tells limit and pace of push-back that follows load, and of no other. Time is an argument.

    `until_s` (on one monotonic clock) is when push-back that was found unrelated to load is judged anew;
    -inf while load is to blame.
    """

    __slots__ = (
        "_fastest",
        "_fastest_s",
        "_level",
        "_limit",
        "_pace",
        "_slow_open_s",
        "_sooner",
        "_span_s",
        "until_s",
    )

    def __init__(self, limit: AdaptiveLimit, pace: Pace) -> None:
        self._limit = limit
        self._pace = pace
        self.until_s = -inf
        self._span_s = UNRELATED_S_FIRST
        # What later spells are compared with, when it ended, and the limit's level in it.
        self._fastest: Spell | None = None
        self._fastest_s = -inf
        self._level = 1.0
        # How long the spell was open by which push-back was found unrelated; shorter ones since, in a row.
        self._slow_open_s = 0.0
        self._sooner = 0

    def on_push_back(self, now_s: float, resumed_s: float, spell: Spell | None) -> None:
        """The upstream asked for less; the lane is held until `resumed_s`.

        `spell` is what came of the lane between the last hold and this one (`Gate.spell`, asked before this
        hold); None for the rest of a volley, and for the first hold of all: what a bucket had saved up
        before anybody came must not be compared with what it saves in a second.
        """
        if now_s < self.until_s:
            if spell is None or not self._came_sooner(spell):
                self._pace.drop()
                return
            self.until_s = -inf
            self._span_s = UNRELATED_S_FIRST
        if spell is None:
            self._limit.on_push_back(now_s)
            self._pace.on_push_back(now_s, resumed_s)
            return
        if self._unrelated(now_s, spell):
            self.until_s = now_s + self._span_s
            self._span_s = min(2.0 * self._span_s, UNRELATED_S_MAX)
            self._slow_open_s = spell.open_s
            self._sooner = 0
            self._limit.take_back(self._level)
            self._pace.drop()
            return
        self._limit.on_push_back(now_s)
        self._pace.on_push_back(now_s, resumed_s, spell.answers / (spell.held_s + spell.open_s))

    def _unrelated(self, now_s: float, spell: Spell) -> bool:
        """Compare with the fastest spell of late, if both are evidence."""
        # A pace decides itself how many answers come, and when: what it lets through is no evidence.
        if spell.answers < ANSWERS_MIN or self._pace.per_s != inf:
            self._fastest = None
            return False
        fastest = self._fastest
        if fastest is not None and now_s - self._fastest_s <= APART_S_MAX:
            rates = spell.answers * fastest.open_s / (fastest.answers * spell.open_s)
            if rates <= SLOWER_SHARE and spell.held_s >= HELD_SHARE * fastest.held_s:
                if spell.answers <= FEWER_SHARE * fastest.answers:
                    self._fastest = None
                    return True
                self._span_s = UNRELATED_S_FIRST
            elif rates < 1.0:
                return False
        self._fastest, self._fastest_s, self._level = spell, now_s, self._limit.level
        return False

    def _came_sooner(self, spell: Spell) -> bool:
        """Whether the faster lane is pushed back sooner after all, which is what load would do."""
        self._sooner = self._sooner + 1 if spell.open_s < SOONER_SHARE * self._slow_open_s else 0
        return self._sooner >= SOONER_MIN
