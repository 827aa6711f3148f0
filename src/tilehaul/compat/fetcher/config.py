"""The older fetcher's settings."""

import os
from dataclasses import dataclass, field
from typing import TypeVar

from tilehaul.codec.safe_url import redact
from tilehaul.codec.url_template import parse_template
from tilehaul.config.fetch_env import (
    RETRIES_DEFAULT,
    TIMEOUT_S_DEFAULT,
    FetchEnv,
    read_fetch_env,
    template_of,
)
from tilehaul.errors import ConfigError
from tilehaul.wiring.fetching import Patience

T = TypeVar("T")

MAX_CONCURRENCY_DEFAULT = 10


def environment() -> FetchEnv:
    """What the environment says. Raises ValueError on nonsense."""
    try:
        return read_fetch_env(os.environ)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _or(said: T | None, default: T) -> T:
    return default if said is None else said


@dataclass(slots=True)
class TileFetcherConfig:
    """Settings, from the environment where they are not given.

    Args:
        max_concurrency: Tiles asked for at once, >= 1 (MAX_CONCURRENCY, else 10).
        timeout_seconds: Of one attempt, > 0 (TIMEOUT_SECONDS, else 10).
        retries: Attempts after the first, >= 0 (RETRIES, else 2).
        base_url: Server whose tiles are at `/{z}/{x}/{y}.png`, or a URL template (TILE_BASE_URL). Empty:
            none. The older default, tile.openstreetmap.org, forbids bulk download.

    Raises:
        ValueError: A setting that cannot be; names it.
    """

    max_concurrency: int = field(
        default_factory=lambda: _or(environment().max_concurrency, MAX_CONCURRENCY_DEFAULT)
    )
    timeout_seconds: float = field(default_factory=lambda: _or(environment().timeout_s, TIMEOUT_S_DEFAULT))
    retries: int = field(default_factory=lambda: _or(environment().retries, RETRIES_DEFAULT))
    base_url: str = field(default_factory=lambda: environment().base_url or "")

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise ValueError(f"max_concurrency must be 1 or more, not {self.max_concurrency}")
        patience_of(self.timeout_seconds, self.retries)
        if self.base_url:
            checked_template(self.base_url)

    @property
    def template(self) -> str:
        """The URL template. Raises ValueError when there is no base URL."""
        return checked_template(self.base_url)


def checked_template(base_url: str | None) -> str:
    """The URL template of a base. Raises ValueError when it is none, or empty."""
    if not base_url:
        raise ValueError("no tile server: set TILE_BASE_URL, or give base_url='https://tiles.example.com'")
    if not base_url.lower().startswith(("http://", "https://")):
        raise ValueError(f"base_url: {redact(base_url)!r} is no address of a server: begin with https://")
    template = template_of(base_url)
    try:
        parse_template(template)
    except ConfigError as error:
        raise ValueError(f"base_url: {error}") from error
    return template


def patience_of(
    timeout_seconds: float,
    retries: int,
    backoff_base: float = 0.0,
    backoff_cap: float = 0.0,
    wait_s_max: float = 0.0,
) -> Patience:
    """Raises ValueError for a number out of range."""
    try:
        return Patience(timeout_seconds, retries, backoff_base, backoff_cap, wait_s_max)
    except ConfigError as error:
        raise ValueError(str(error)) from error
