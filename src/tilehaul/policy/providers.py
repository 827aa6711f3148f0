"""What known providers permit, and how they say "too much". The facts are data: `config/providers.yaml`.

A provider that forbids bulk download is refused for seeding; serving through a
cache is another thing and stays allowed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from tilehaul.policy.answers import ANSWERS_DEFAULT, AnswerRule


@dataclass(frozen=True, slots=True)
class Provider:
    """One host's terms, which hold for its subdomains too; the defaults are those of a host nobody knows.

    Args:
        host: In lower case, without a dot at the end.
        bulk: Tiles may be taken in bulk: seeded, streamed, copied.
        contact: Every request must name somebody to write to, also a service's.
        rate_per_s: Most requests a second, > 0; None: not stated.
        in_flight_max: Most requests under way at once, >= 1; None: not stated.
        answers: Which of its answers mean "too much" besides the usual ones.
        reason: Why it forbids bulk download, as words after the host's name.
        agreement: What allows the operator bulk download all the same.
        source, date: Where that is written, and when it was read.
    """

    host: str
    bulk: bool = True
    contact: bool = False
    rate_per_s: float | None = None
    in_flight_max: int | None = None
    answers: AnswerRule = ANSWERS_DEFAULT
    reason: str = ""
    agreement: str = ""
    source: str = ""
    date: str = ""

    @property
    def bulk_refusal(self) -> str | None:
        """Why it must not be seeded from, in a line; None when it may."""
        if self.bulk:
            return None
        reason = self.reason or "it forbids bulk download"
        written = f" ({self.source})" if self.source else ""
        return f"{self.host} cannot be seeded: {reason}{written}"


class Providers:
    """The hosts that are known. The entry of a subdomain goes before its parent's."""

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        self._by_host = {provider.host: provider for provider in providers}
        rules = [provider.answers for provider in self._by_host.values()]
        # Whether plain tiles have to be looked at as well: hardly ever, and they are all that is fast.
        self.suspects_200 = any(200 in rule.push_back or _at_200(rule) for rule in rules)

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._by_host.values())

    def of(self, url: str) -> Provider | None:
        """The terms of the address's host; None when nothing is known of it."""
        end = url.find("/", len("https://"))
        return self.of_host(_host_of(url if end < 0 else url[:end]))

    def of_host(self, host: str) -> Provider | None:
        """As `of`, of a host's name as `host_name` writes it."""
        while host:
            provider = self._by_host.get(host)
            if provider is not None:
                return provider
            host = host.partition(".")[2]
        return None


NO_PROVIDERS = Providers()


def _at_200(rule: AnswerRule) -> bool:
    return any(sign.status == 200 for sign in rule.signs)


# IDNA 2003 (RFC 3490, 3.1) takes these for the dot between labels.
_FULL_STOPS = "\u3002\uff0e\uff61"


def host_name(text: str) -> str:
    """A host as libcurl reads it: percent-encoding undone, every full stop of Unicode a dot; lower case."""
    host = unquote(text).lower()
    for stop in _FULL_STOPS:
        host = host.replace(stop, ".")
    return host.rstrip(".")


@lru_cache(maxsize=1024)
def _host_of(origin: str) -> str:
    """The host of `scheme://user@host:port`; asked for with every answer that is no plain tile."""
    return host_name(urlsplit(origin).hostname or "")
