"""Client limits at the server's door: who asks, whether it may, and what it is told when it may not."""

import logging
from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

from tilehaul.config.settings import ServerSettings
from tilehaul.jobs.serve_tile import Headers, Reply
from tilehaul.policy.client_limits import ClientLimits
from tilehaul.policy.client_names import ClientNames
from tilehaul.policy.rate import RateRule
from tilehaul.server.reply import RawHeaders, field_of, refusal, told_request_id

log = logging.getLogger(__name__)

# One line a minute is enough to say that the limit is at work.
WARNING_EVERY_S = 60.0
# Keys of a request's `state`: the meter and the client it was counted for; the answer it is to get.
COUNTED = "counted"
TURNED_AWAY = "turned_away"


def meter_of(settings: ServerSettings, now_s: Callable[[], float]) -> "Meter | None":
    """The meter that the settings ask for; None: nobody is limited."""
    if not settings.client_rate:
        return None
    return Meter(RateRule(settings.client_rate, settings.client_burst), settings.trusted_proxies, now_s)


class Meter:
    """The limits of one server.

    Args:
        rule: What each client may ask for.
        trusted: Proxies whose X-Forwarded-For is believed: see `ClientNames`.
        now_s: Monotonic seconds.

    Raises:
        ConfigError: Values are out of range.
    """

    def __init__(self, rule: RateRule, trusted: Iterable[str], now_s: Callable[[], float]) -> None:
        self.limits = ClientLimits(rule)
        self._names = ClientNames(trusted)
        self._now_s = now_s
        self._warned_s: float | None = None

    def caller(self, peer: str) -> str | None:
        """Who is at the other end of a connection: "" is not limited, None is a proxy, which says who."""
        return None if self._names.proxy(peer) else self._names.name(peer)

    def judge(
        self,
        caller: str | None,
        peer: str,
        headers: RawHeaders,
        state: dict[str, Any],
        new_request_id: Callable[[], str],
    ) -> Reply | None:
        """Count a request: None lets it in, else it gets this answer.

        Args:
            caller: As `caller` says of the connection.
            peer: Address of its other end.
            headers: Names in lower case.
            state: The request's own, told for whom it was counted.
            new_request_id: Names a request that is turned away and brought no usable X-Request-Id.
        """
        if caller is None:
            caller = self._names.name(peer, field_of(headers, b"x-forwarded-for"))
        if not caller:
            return None
        wait_s = self.take(caller)
        if not wait_s:
            state[COUNTED] = (self, caller)
            return None
        request_id = told_request_id(headers) or new_request_id()
        return self.refusal(wait_s, request_id)

    def take(self, client: str) -> float:
        """Let one request in: 0.0. Or do not: the seconds until the next one will be."""
        now_s = self._now_s()
        wait_s = self.limits.take(client, now_s)
        if wait_s and (self._warned_s is None or now_s - self._warned_s >= WARNING_EVERY_S):
            self._warned_s = now_s
            # Not which client: addresses are people's.
            log.warning(
                "clients ask for more than server.client_rate: %d requests were answered 429 so far",
                self.limits.refused,
            )
        return wait_s

    def owe(self, client: str, requests: int) -> None:
        """One request turned out to be worth so many more."""
        self.limits.owe(client, requests)

    def refusal(self, wait_s: float, request_id: str) -> Reply:
        """429, with when to come back and what may be asked for (draft-ietf-httpapi-ratelimit-headers-10)."""
        # Rounded first: a nanosecond more than a second is no two seconds.
        again_s = max(1, ceil(round(wait_s, 3)))
        per_s = self.limits.rule.per_s
        window_s = max(1, ceil(1.0 / per_s))
        headers: Headers = (
            ("retry-after", str(again_s)),
            ("ratelimit", f'"client";r=0;t={again_s}'),
            ("ratelimit-policy", f'"client";q={max(1, int(per_s * window_s))};w={window_s}'),
        )
        message = "this client asks for more than it may; Retry-After says when to go on"
        return refusal(429, message, "client_limit", request_id, headers=headers)
