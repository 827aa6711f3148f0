"""Settings become a sender: the wire in its wrappers, in the order of `contracts`."""

import random
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

from tilehaul.config.sending import Sending
from tilehaul.errors import ConfigError
from tilehaul.jobs.event_log import log_event
from tilehaul.net.addresses import AddressGuard, host_port_of, parse_host_port
from tilehaul.net.clock import SystemClock
from tilehaul.net.gauges import Gauges
from tilehaul.net.lane_pool import LanePool
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.net.redirected import RedirectedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.net.spaced import SpacedSender
from tilehaul.net.verified import VerifiedSender
from tilehaul.net.wire import CONNECTIONS_MAX_DEFAULT, Wire
from tilehaul.policy.answers import AnswerRule
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import TellLane
from tilehaul.ports.wire import Sender, Signing

# "Please reduce your request rate" (S3's SlowDown) comes without a Retry-After.
BUCKET_ANSWERS = AnswerRule(push_back=frozenset({503}))


@asynccontextmanager
async def open_sender(
    sending: Sending,
    typed_urls: Sequence[str],
    *,
    tally: Tally,
    tell: TellLane | None = None,
    gauges: Gauges | None = None,
    pool: LanePool | None = None,
) -> AsyncIterator[Sender]:
    """Retried(Laned(Verified(Redirected(wire)))), the order of `contracts`: for calls that wait.

    `typed_urls` are the addresses the operator typed: their hosts may be private. `gauges` are told where to
    read. `pool`: see `open_laned`.
    """
    allowed = allowed_hosts(sending, typed_urls)
    async with open_laned(sending, allowed, tally=tally, tell=tell, gauges=gauges, pool=pool) as laned:
        yield RetriedSender(laned, retry_rule(sending), SystemClock(), random.random, tally)


def retry_rule(sending: Sending) -> RetryRule:
    return RetryRule(attempts_max=sending.retries + 1, wait_s_max=sending.max_wait_s)


def allowed_hosts(sending: Sending, typed_urls: Iterable[str]) -> set[str]:
    """The "host:port" that may be private: those the operator typed, or allowed by name."""
    return {host_port_of(url) for url in typed_urls} | {
        parse_host_port(text) for text in sending.allow_private
    }


@asynccontextmanager
async def open_laned(
    sending: Sending,
    allowed: AbstractSet[str],
    *,
    tally: Tally,
    tell: TellLane | None = None,
    connections_max: int | None = None,
    pause: bool = False,
    hand_back: bool = False,
    signing: Signing | None = None,
    gauges: Gauges | None = None,
    pool: LanePool | None = None,
    start: int | None = None,
) -> AsyncIterator[LanedSender]:
    """Laned(Verified(Redirected(wire))): for callers that try again by rules of their own.

    `allowed` are the "host:port" that may be private; it may grow while this is open.
    `connections_max`: see `Wire`; None: enough for one lane at its limit. `pause`, `hand_back`,
    `start`: see `LaneSettings`.
    `signing`: for a bucket: every request is signed, no redirect is followed, every 503 is push-back, and
    two writes to one key keep their distance.
    `pool`: whose lanes are used, its owner's to close; None: lanes of this opening's own.
    """
    if sending.tls_roots is not None:
        _check_roots(sending.tls_roots)
    clock = SystemClock()
    wire = Wire(
        sending.user_agent(),
        timeouts=sending.timeouts(),
        guard=AddressGuard(allowed),
        connections_max=connections_max or max(CONNECTIONS_MAX_DEFAULT, sending.concurrency or 0),
        tls_roots=sending.tls_roots,
        signing=signing,
    )
    async with wire:
        verified: Sender = VerifiedSender(RedirectedSender(wire), clock, tally, providers=sending.rules())
        if signing is not None:
            verified = SpacedSender(VerifiedSender(wire, clock, tally, BUCKET_ANSWERS), clock)
        laned = LanedSender(
            verified,
            LaneSettings(
                sending.concurrency,
                wait_s_max=sending.max_wait_s,
                adaptive=sending.adaptive,
                rate_per_s=sending.rate_limit,
                pause=pause,
                hand_back=hand_back,
                start=start,
                share=sending.share,
            ),
            clock=clock,
            luck=random.random,
            tally=tally,
            tell=tell or log_event,
            providers=sending.rules(),
            pool=pool,
        )
        if gauges is not None:
            gauges.add(laned.snapshots, lambda: wire.connections_held)
        try:
            yield laned
        finally:
            await laned.aclose()


def _check_roots(path: str) -> None:
    """Raise ConfigError now for what would otherwise fail at every tile."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-roots {path}: {error.strerror or 'no PEM certificates in it'}") from error
