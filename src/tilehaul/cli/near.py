"""Flags about requests, refused where none is sent: rather than be accepted and ignored."""

import argparse
import os

from tilehaul.errors import PlanError

# By their names in a namespace, with what they are without being typed.
_OF_REQUESTS: "dict[str, tuple[str, object]]" = {
    "concurrency": ("-c", None),
    "fixed": ("--fixed", False),
    "timeout": ("--timeout", None),
    "retries": ("--retries", 5),
    "tls_roots": ("--tls-roots", None),
    "providers": ("--providers", None),
}
# A bucket's requests are signed as they are, and follow no redirect.
_OF_THE_WEB: "dict[str, tuple[str, object]]" = {
    "header": ("-H", []),
    "allow_private": ("--allow-private", []),
}


def check_sending_flags(options: argparse.Namespace, *places: str) -> None:
    """Refuse flags of `add_sending_flags` and `add_job_flags` that have nothing to act upon at these places.

    Raises PlanError, also for what is no place.
    """
    from tilehaul.config.locations import NEAR_KINDS, parse_location

    kinds = {place: parse_location(place).kind for place in places}
    far = {place: kind for place, kind in kinds.items() if kind not in NEAR_KINDS}
    if not far:
        said = _typed(options, _OF_REQUESTS | _OF_THE_WEB)
        # From the environment it is meant for whatever needs one.
        if options.contact != os.environ.get("TILEHAUL_CONTACT", ""):
            said.append("--contact")
        if said:
            where = " and ".join(places)
            raise PlanError(
                f"{' '.join(said)}: for requests, and none is sent: {where} {_are(places)} on this machine:"
                f" leave {'it' if len(said) == 1 else 'them'} out"
            )
    if all(_is_bucket(place, kind) for place, kind in far.items()) and (said := _typed(options, _OF_THE_WEB)):
        raise PlanError(
            f"{' '.join(said)}: for tile services and files on the web; requests to a bucket are signed and"
            f" follow no redirect: leave {'it' if len(said) == 1 else 'them'} out"
        )


def _typed(options: argparse.Namespace, flags: "dict[str, tuple[str, object]]") -> list[str]:
    return [flag for name, (flag, otherwise) in flags.items() if getattr(options, name) != otherwise]


def _are(places: tuple[str, ...]) -> str:
    return "is" if len(places) == 1 else "are"


def _is_bucket(place: str, kind: str) -> bool:
    return kind == "bucket" or (kind == "remote" and place.strip().lower().startswith(("s3://", "r2://")))
