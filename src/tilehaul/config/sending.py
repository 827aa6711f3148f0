"""How to send: the settings every job shares, and the User-Agent."""

from dataclasses import dataclass
from numbers import Integral, Real

from tilehaul import __version__
from tilehaul.errors import ConfigError
from tilehaul.policy.limit_rule import LIMIT_MAX, lane_most
from tilehaul.policy.providers import Providers
from tilehaul.policy.share import WHOLE, Share
from tilehaul.ports.wire import TIMEOUTS_DEFAULT, Timeouts

PROJECT_PAGE = "https://github.com/tilehaul/tilehaul"
# A job asks for a few more tiles than there are permits: one that comes back is used at once, while its
# last holder still hands its tile over.
WORKERS_SPARE = 4
# A day: nobody means a longer one, and libcurl counts milliseconds in 32 bits.
PATIENCE_S_MAX = 86_400.0


def timeouts_of(limit_s: float) -> Timeouts:
    """The limits that one number means: see `Sending.timeout_s`."""
    return Timeouts(connect_s=limit_s, first_byte_s=limit_s, idle_s=limit_s, total_s=4 * limit_s)


@dataclass(frozen=True, slots=True)
class Sending:
    """Flags of one job.

    Args:
        concurrency: Attempts under way at once in one lane, in 1 to LIMIT_MAX: the cap of a limit that finds
            itself, or the limit. None: the maximum of the lane's class (32 for tiles, 128 from and 64 to a
            bucket: `CLASS_LIMITS`); 32 when it is not `adaptive`.
        timeout_s: Seconds without progress until an attempt has failed, in every phase, at most
            PATIENCE_S_MAX; an attempt may take four times as long in all as long as bytes keep coming.
            None: the defaults of `Timeouts`, a limit for each phase.
        retries: Attempts after the first, >= 0.
        max_wait_s: Longest wait for an origin that pushes back or is silent, at most PATIENCE_S_MAX.
        contact: Mail or page for the User-Agent.
        headers: Sent with every request. Not User-Agent: it says who we are.
        allow_private: "host:port" that may be private although the operator did not type it.
        tls_roots: PEM file of the trusted roots instead of the system's.
        providers: What hosts permit (`config/providers.py`); None: what is known of them.
        adaptive: Each lane finds its own limit, up to `concurrency`. False: it is `concurrency`, and only
            failures open the lane's breaker, never slow answers.
        rate_limit: Requests a second in one lane, > 0; None: as many as the limit allows.
        share: Of the limits of each lane, those of its provider too, where several processes ask.

    Raises ConfigError when a number is none or out of range, or a header is one that says who we are.
    """

    concurrency: int | None = None
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
    share: Share = WHOLE

    def __post_init__(self) -> None:
        if self.concurrency is not None and not (
            _whole(self.concurrency) and 1 <= self.concurrency <= LIMIT_MAX
        ):
            raise ConfigError(
                f"concurrency: {self.concurrency!r}: a whole number from 1 to {LIMIT_MAX} is wanted"
            )
        if not (_whole(self.retries) and self.retries >= 0):
            raise ConfigError(
                f"retries: {self.retries!r}: a whole number is wanted; 0 asks for each tile once"
            )
        if self.timeout_s is not None:
            check_patience("timeout_s", self.timeout_s)
        check_patience("max_wait_s", self.max_wait_s)
        if any(name.lower() == "user-agent" for name, _ in self.headers):
            raise ConfigError("the User-Agent names tilehaul and you: use --contact to say who you are")

    def workers_for(self, lane_class: str) -> int:
        """Tiles a job asks for at once, of an origin whose lane is of this class."""
        return lane_most(lane_class, cap=self.concurrency, adaptive=self.adaptive) + WORKERS_SPARE

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


def check_patience(name: str, seconds: float) -> None:
    """Raise ConfigError unless `seconds` is a number above 0 and at most PATIENCE_S_MAX."""
    if isinstance(seconds, bool) or not (isinstance(seconds, Real) and 0 < seconds <= PATIENCE_S_MAX):
        raise ConfigError(
            f"{name}: {seconds!r}: seconds above 0 and up to {PATIENCE_S_MAX:g}, a day, are wanted"
        )


def _whole(value: object) -> bool:
    """An integer of whatever make; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


SENDING_DEFAULT = Sending()
