"""The four variables that the benchmark and the older fetcher read."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from tilehaul.config.sending import PATIENCE_S_MAX
from tilehaul.errors import ConfigError

TIMEOUT_S_DEFAULT = 10.0
RETRIES_DEFAULT = 2


@dataclass(frozen=True, slots=True)
class FetchEnv:
    """What the environment says; None where it says nothing.

    `base_url` is TILE_BASE_URL, `max_concurrency` MAX_CONCURRENCY (>= 1), `timeout_s` TIMEOUT_SECONDS
    (> 0, at most PATIENCE_S_MAX), `retries` RETRIES (>= 0).
    """

    base_url: str | None = None
    max_concurrency: int | None = None
    timeout_s: float | None = None
    retries: int | None = None

    @property
    def template(self) -> str | None:
        return None if self.base_url is None else template_of(self.base_url)


def template_of(base_url: str) -> str:
    """The URL template of a server: `/{z}/{x}/{y}.png` behind its address, unless that is a template."""
    return base_url if "{" in base_url else base_url.rstrip("/") + "/{z}/{x}/{y}.png"


def read_fetch_env(environ: Mapping[str, str]) -> FetchEnv:
    """Read the variables; an empty one counts as not set.

    Raises:
        ConfigError: Not a number, or out of range; names the variable.
    """
    timeout_s = _number(environ, "TIMEOUT_SECONDS")
    if timeout_s is not None and not 0 < timeout_s <= PATIENCE_S_MAX:
        text = environ["TIMEOUT_SECONDS"]
        raise ConfigError(f"TIMEOUT_SECONDS={text}: use seconds above 0 and up to {PATIENCE_S_MAX:g}")
    return FetchEnv(
        base_url=environ.get("TILE_BASE_URL") or None,
        max_concurrency=_whole(environ, "MAX_CONCURRENCY", least=1),
        timeout_s=timeout_s,
        retries=_whole(environ, "RETRIES", least=0),
    )


def _number(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = inf
    if not 0 <= value < inf:
        raise ConfigError(f"{name}={text} is no number of at least 0")
    return value


def _whole(environ: Mapping[str, str], name: str, *, least: int) -> int | None:
    value = _number(environ, name)
    if value is None:
        return None
    if value < least or value != int(value):
        raise ConfigError(f"{name}={environ[name]} is no whole number of at least {least}")
    return int(value)
