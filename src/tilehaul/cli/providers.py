"""`tilehaul providers`: the rules of hosts that are in force."""

import argparse
import json
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, add_providers_flag

if TYPE_CHECKING:
    from tilehaul.policy.answers import Sign
    from tilehaul.policy.providers import Provider

_EXAMPLES = """\
  tilehaul providers                           what is known
  tilehaul providers --providers mine.yaml     with your own rules over it
  tilehaul providers --host a.tile.openstreetmap.org --json

docs/providers.md explains the file.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "providers",
        summary="show what hosts permit: rates, bulk download, how they say too much",
        examples=_EXAMPLES,
        run=run,
    )
    add_providers_flag(parser)
    parser.add_argument("--host", metavar="NAME", help="only what holds for this host, or host of an address")
    parser.add_argument("--json", action="store_true", help="one JSON object a host")


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from tilehaul.config.providers import known_providers, load_providers
    from tilehaul.policy.providers import host_name

    rules = known_providers() if options.providers is None else load_providers(Path(options.providers))
    found = list(rules)
    if options.host is not None:
        name = options.host
        one = rules.of(name) if "://" in name else rules.of_host(host_name(name))
        if one is None and not options.json:
            print(f"{name}: nothing is known of it; the usual limits hold")
        found = [] if one is None else [one]
    for provider in sorted(found, key=lambda provider: provider.host.split(".")[::-1]):
        print(json.dumps(_facts(provider)) if options.json else _shown(provider))
    return exit_codes.COMPLETE


def _facts(provider: "Provider") -> dict[str, object]:
    """A provider by the words of the file."""
    answers = provider.answers
    signs = [_sign(sign) for sign in answers.signs]
    return {
        "host": provider.host,
        "rate_limit": provider.rate_per_s,
        "concurrency": provider.in_flight_max,
        "push_back": [*sorted(answers.push_back), *signs],
        "bulk": provider.bulk,
        "contact": provider.contact,
        "reason": provider.reason,
        "agreement": provider.agreement,
        "source": provider.source,
        "date": provider.date,
    }


def _sign(sign: "Sign") -> dict[str, object]:
    header = f"{sign.header}: {sign.header_value}" if sign.header_value else sign.header
    told = {"status": sign.status, "header": header, "body": sign.body}
    return {name: value for name, value in told.items() if value}


def _shown(provider: "Provider") -> str:
    terms = []
    if not provider.bulk:
        terms.append(f"no bulk download: {provider.reason or 'it forbids it'}")
    elif provider.agreement:
        terms.append(f"bulk download by agreement: {provider.agreement}")
    if provider.rate_per_s is not None:
        terms.append(f"at most {provider.rate_per_s:g} requests a second")
    if provider.in_flight_max is not None:
        terms.append(f"at most {provider.in_flight_max} under way at once")
    terms += [f"HTTP {status} means too many requests" for status in sorted(provider.answers.push_back)]
    for sign in provider.answers.signs:
        marks = " and ".join(f'{name} "{text}"' for name, text in _sign(sign).items() if name != "status")
        terms.append(f"HTTP {sign.status} with {marks} means too many requests")
    if provider.contact:
        terms.append("wants a contact from every client")
    written = ", ".join(word for word in (provider.source, provider.date) if word)
    return "\n".join(
        [provider.host, *(f"  {term}" for term in terms), *([f"  ({written})"] if written else [])]
    )
