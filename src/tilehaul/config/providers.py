"""The rules of known hosts: the file that comes with tilehaul, and what the operator puts over it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from tilehaul.config.reading import KeyPath, Place, converted, parse_yaml, read_yaml
from tilehaul.policy.answers import AnswerRule, Sign
from tilehaul.policy.providers import Provider, Providers, host_name

FILE = "providers.yaml"
# A name of dots and labels as DNS has them, letters of any script; an IPv4 address is one too.
_HOST = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*")
Status = Annotated[int, Meta(ge=200, le=599)]


class SignSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An answer that means "too many requests" only when it bears a mark."""

    status: Status
    header: Annotated[
        str, Meta(description='A header it must have, "Name", or "Name: text" that it must contain.')
    ] = ""
    body: Annotated[str, Meta(description="Text that its first 4 KiB must contain.")] = ""


class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one host permits. What is left out stays as it is known."""

    rate_limit: Annotated[float, Meta(gt=0, le=1e6, description="Most requests a second.")] | None = None
    concurrency: Annotated[int, Meta(ge=1, description="Most requests under way at once.")] | None = None
    push_back: (
        Annotated[
            list[Status | SignSettings],
            Meta(description='Statuses that mean "too many requests" here, or answers by their marks.'),
        ]
        | None
    ) = None
    bulk: Annotated[bool, Meta(description="Whether tiles may be taken in bulk, as by seed.")] | None = None
    contact: Annotated[bool, Meta(description="Whether every request must name a contact.")] | None = None
    reason: Annotated[str, Meta(description="Why bulk download is forbidden, as words after its name.")] = ""
    agreement: Annotated[
        str, Meta(description="What allows you bulk download where the provider forbids it to others.")
    ] = ""
    source: Annotated[str, Meta(description="Where these terms are written.")] = ""
    date: Annotated[str, Meta(description="When they were read.")] = ""


@cache
def known_providers() -> Providers:
    """The rules that come with tilehaul (`config/providers.yaml`)."""
    return Providers(_known().values())


def load_providers(path: Path) -> Providers:
    """The known rules with a file's over them. Raises ConfigError as `read_providers`."""
    return with_providers(read_providers(path), Place(str(path)))


def read_providers(path: Path) -> dict[str, ProviderSettings]:
    """A file of hosts and their terms.

    Raises:
        ConfigError: It cannot be read, a host, key or value in it is wrong, or `with_providers` refuses it;
            with the line.
    """
    document, place = read_yaml(path)
    block = _parsed(document, place)
    with_providers(block, place)
    return block


def with_providers(block: Mapping[str, ProviderSettings], place: Place, path: KeyPath = ()) -> Providers:
    """The known rules with these over them, which stand at `path` of `place`.

    An entry for a host changes what it says and keeps the rest: of the host's known entry, or else of its
    parent's.

    Raises:
        ConfigError: A key is no host's name, or an entry allows the bulk download that its host forbids
            without naming an agreement.
    """
    return Providers(_laid_over(_known(), block, place, path).values())


@cache
def _known() -> dict[str, Provider]:
    text = files("tilehaul.config").joinpath(FILE).read_text(encoding="utf-8")
    document, place = parse_yaml(text, FILE)
    return _laid_over({}, _parsed(document, place), place, ())


def _parsed(document: object, place: Place) -> dict[str, ProviderSettings]:
    hosts = {str(key): terms for key, terms in document.items()} if isinstance(document, dict) else document
    return converted({} if hosts is None else hosts, dict[str, ProviderSettings], place)


def _laid_over(
    known: Mapping[str, Provider], block: Mapping[str, ProviderSettings], place: Place, path: KeyPath
) -> dict[str, Provider]:
    rules = dict(known)
    # Parents first, so that a subdomain named in the same file inherits from them.
    for key in sorted(block, key=lambda key: key.count(".")):
        host = host_name(key)
        if not _HOST.fullmatch(host):
            raise place.error(
                f'"{key}" is no host name: write it as in tiles.example.com, without scheme, port or path;'
                " subdomains are included",
                (*path, key),
            )
        before = Providers(rules.values()).of_host(host)
        entry = block[key]
        if entry.bulk and before is not None and not before.bulk and not entry.agreement.strip():
            raise place.error(
                f"{before.bulk_refusal}; if you have an agreement with them, name it beside bulk: true, as in"
                ' agreement: "letter of 2026-10-01"',
                (*path, key, "bulk"),
            )
        rules[host] = _changed(replace(before or Provider(host), host=host), entry)
    return rules


def _changed(provider: Provider, entry: ProviderSettings) -> Provider:
    answers = provider.answers
    if entry.push_back is not None:
        signs = tuple(_sign(item) for item in entry.push_back if isinstance(item, SignSettings))
        answers = AnswerRule(frozenset(item for item in entry.push_back if isinstance(item, int)), signs)
    return replace(
        provider,
        bulk=provider.bulk if entry.bulk is None else entry.bulk,
        contact=provider.contact if entry.contact is None else entry.contact,
        rate_per_s=provider.rate_per_s if entry.rate_limit is None else entry.rate_limit,
        in_flight_max=provider.in_flight_max if entry.concurrency is None else entry.concurrency,
        answers=answers,
        reason=entry.reason or provider.reason,
        agreement=entry.agreement or provider.agreement,
        source=entry.source or provider.source,
        date=entry.date or provider.date,
    )


def _sign(settings: SignSettings) -> Sign:
    name, _, value = settings.header.partition(":")
    return Sign(settings.status, name.strip().lower(), value.strip().lower(), settings.body.lower())
