"""`s3://` and `r2://` become a store: signed, laned, each key's writes apart, the journal on this machine."""

import hashlib
import os
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tilehaul.config.buckets import bucket_place
from tilehaul.config.locations import Location
from tilehaul.config.sending import Sending
from tilehaul.net.addresses import host_port_of
from tilehaul.net.clock import SystemClock
from tilehaul.net.laned import LanedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.wire import Sender
from tilehaul.stores.bucket import BucketStore
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_file import Durability

OpenLaned = Callable[..., AbstractAsyncContextManager[LanedSender]]


def open_bucket(
    place: Location,
    sending: Sending,
    open_laned: OpenLaned,
    *,
    durability: Durability = "full",
    journal: str | None = None,
    rated: bool = False,
) -> BucketStore:
    """The store there; nothing is sent before it is first asked.

    Args:
        place: Of kind `bucket`.
        sending: Patience, limits and roots.
        rated: Whether its rate limit is for this bucket: it is the source's, and does not hold a store up.
        open_laned: `places.open_laned`, which needs this file itself.
        durability: Of the journal.
        journal: The journal's file; None: one in the state folder, named after the place.

    Raises PlanError, ConfigError: see `bucket_place`.
    """
    where = bucket_place(place.text, os.environ)
    if not rated:
        sending = replace(sending, rate_limit=None)
    tally = Tally()

    @asynccontextmanager
    async def open_sender() -> AsyncIterator[Sender]:
        allowed = {host_port_of(where.url)}
        async with open_laned(sending, allowed, tally=tally, pause=True, signing=where.signing) as laned:
            rule = RetryRule(attempts_max=sending.retries + 1, wait_s_max=sending.max_wait_s)
            yield RetriedSender(laned, rule, SystemClock(), random.random, tally)

    return BucketStore(
        where.url,
        shown=where.shown,
        open_sender=open_sender,
        journal=real_path(Path(journal))
        if journal is not None
        else state_folder() / f"{_slug(where.url)}.journal",
        durability=durability,
    )


def state_folder() -> Path:
    """Where journals of buckets lie: TILEHAUL_STATE, else `tilehaul` in XDG_STATE_HOME or ~/.local/state."""
    named = os.environ.get("TILEHAUL_STATE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "tilehaul"


def _slug(url: str) -> str:
    """A file name that people can read, and that no two places share."""
    words = re.sub(r"[^A-Za-z0-9.-]+", "_", url.partition("://")[2]).strip("_")[:80]
    return f"{words}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
