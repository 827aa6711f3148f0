"""How to send: the settings every job shares, and the User-Agent."""

from dataclasses import dataclass

from tilehaul import __version__
from tilehaul.errors import ConfigError
from tilehaul.policy.providers import Providers
from tilehaul.ports.wire import TIMEOUTS_DEFAULT, Timeouts

PROJECT_PAGE = "https://github.com/tilehaul/tilehaul"
# A job asks for a few more tiles than there are permits: one that comes back is used at once, while its
# last holder still hands its tile over.
WORKERS_SPARE = 4


def timeouts_of(limit_s: float) -> Timeouts:
    """The limits that one number means: see `Sending.timeout_s`."""
    return Timeouts(connect_s=limit_s, first_byte_s=limit_s, idle_s=limit_s, total_s=4 * limit_s)


@dataclass(frozen=True, slots=True)
class Sending:
    """Flags of one job.

    Args:
        concurrency: Attempts under way at once in one lane, in 1 to 1000: the cap of a limit that finds
            itself, or the limit.
        timeout_s: Seconds without progress until an attempt has failed, in every phase; an attempt may
            take four times as long in all as long as bytes keep coming. None: the defaults of `Timeouts`,
            a limit for each phase.
        retries: Attempts after the first, >= 0.
        max_wait_s: Longest wait for an origin that pushes back or is silent.
        contact: Mail or page for the User-Agent.
        headers: Sent with every request. Not User-Agent: it says who we are.
        allow_private: "host:port" that may be private although the operator did not type it.
        tls_roots: PEM file of the trusted roots instead of the system's.
        providers: What hosts permit (`config/providers.py`); None: what is known of them.
        adaptive: Each lane finds its own limit, up to `concurrency`. False: it is `concurrency`.
        rate_limit: Requests a second in one lane, > 0; None: as many as the limit allows.

    Raises ConfigError when a number is out of range, or a header is one that says who we are.
    """

    concurrency: int = 32
    timeout_s: float | None = None
    retries: int = 5
    max_wait_s: float = 1800.0
    contact: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    allow_private: tuple[str, ...] = ()
    tls_roots: str | None = None
    providers: Providers | None = None
    adaptive: bool = True
    rate_limit: float | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError(f"concurrency: {self.concurrency} is below 1")
        if self.retries < 0:
            raise ConfigError(f"retries: {self.retries} is below 0; 0 asks for each tile once")
        for name, value in (("timeout_s", self.timeout_s), ("max_wait_s", self.max_wait_s)):
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: {value:g} s is no time to wait; give more than 0")
        if any(name.lower() == "user-agent" for name, _ in self.headers):
            raise ConfigError("the User-Agent names tilehaul and you: use --contact to say who you are")

    @property
    def workers(self) -> int:
        """Tiles a job asks for at once."""
        return self.concurrency + WORKERS_SPARE

    def rules(self) -> Providers:
        """What hosts permit, as far as it is known."""
        if self.providers is not None:
            return self.providers
        # YAML and msgspec take 30 ms to load: only where a tile service is opened.
        from tilehaul.config.providers import known_providers  # noqa: PLC0415

        return known_providers()

    def timeouts(self) -> Timeouts:
        return TIMEOUTS_DEFAULT if self.timeout_s is None else timeouts_of(self.timeout_s)

    def user_agent(self) -> str:
        """`tilehaul/<version> (+<project page>; <contact>)`. Raises ConfigError."""
        said = self.contact.strip()
        if any(not 32 <= ord(char) < 127 or char in "()" for char in said):
            raise ConfigError("--contact: plain ASCII letters without brackets, e.g. maps@example.com")
        contact = f"; {said}" if said else ""
        return f"tilehaul/{__version__} (+{PROJECT_PAGE}{contact})"


SENDING_DEFAULT = Sending()
