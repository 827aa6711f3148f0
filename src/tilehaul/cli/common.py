"""Flags and words that several commands share."""

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.policy.fuse import FailureLimit
    from tilehaul.policy.providers import Providers

T = TypeVar("T")

LOG_LEVELS = ("debug", "info", "warning")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    summary: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """Add one subcommand with a help that ends in examples."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    logs = parser.add_argument_group("log, on standard error")
    logs.add_argument("--log-level", choices=LOG_LEVELS, help="how much (default: warning; or TILEHAUL_LOG)")
    logs.add_argument("--log-json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)
    return parser


def add_area_flags(parser: argparse.ArgumentParser, *, otherwise: str = "") -> None:
    """Add the flags `area_of` reads. `otherwise`: what it is without them; empty: the world, zooms 0-5."""
    area = parser.add_argument_group("area")
    area.add_argument(
        "--bbox",
        action="append",
        metavar="W,S,E,N",
        help="degrees; west > east crosses 180; repeatable: what lies in any of the boxes"
        f" (default: {otherwise or 'the world'})",
    )
    area.add_argument("--region", metavar="FILE", help="GeoJSON polygon instead of a box")
    area.add_argument("--tiles", metavar="FILE", help='a list instead: one "z/x/y" a line, "-" reads stdin')
    zooms = "all" if otherwise else "0-5"
    area.add_argument("-z", "--zooms", metavar="ZOOMS", help=f"e.g. 0-5 or 0-12,14 (default: {zooms})")
    area.add_argument("--min-zoom", type=int, metavar="Z", help="the same, spelled apart: both")
    area.add_argument("--max-zoom", type=int, metavar="Z")


def add_sending_flags(parser: argparse.ArgumentParser) -> None:
    sending = parser.add_argument_group("sending")
    sending.add_argument(
        "-c",
        "--concurrency",
        type=concurrency,
        metavar="N",
        help="most requests under way at once to one host; how many are, it finds itself"
        " (default: 32; 128 from and 64 to a bucket)",
    )
    sending.add_argument(
        "--fixed",
        action="store_true",
        help="-c (default: 32) is how many are under way, always; only failures, not slow answers, make it"
        " leave a host alone",
    )
    add_rate_flag(sending)
    sending.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="S",
        help="seconds without progress until an attempt has failed"
        " (default: 10 to connect, 30 to the first byte, 15 between bytes)",
    )
    sending.add_argument(
        "--retries",
        type=not_negative,
        default=5,
        metavar="N",
        help="attempts after the first (default: %(default)s)",
    )
    sending.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="sent with every request; repeatable",
    )
    sending.add_argument(
        "--contact",
        default=os.environ.get("TILEHAUL_CONTACT", ""),
        metavar="WHO",
        help="mail or page for the User-Agent (or TILEHAUL_CONTACT); public hosts need one",
    )
    add_providers_flag(sending)


def add_providers_flag(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--providers",
        metavar="FILE",
        help="your own rules of hosts, over the known ones (see tilehaul providers)",
    )


def providers_of(name: str | None) -> "Providers | None":
    """The rules of `--providers FILE`; None without one. Raises ConfigError."""
    if name is None:
        return None
    from tilehaul.config.providers import load_providers

    return load_providers(Path(name))


def add_rate_flag(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--rate-limit",
        type=positive_rate,
        metavar="N",
        help="most requests a second to one host, evenly spaced; 0.2 is one in five seconds",
    )


def concurrency(text: str) -> int:
    """As `Sending.concurrency`."""
    from tilehaul.policy.limit_rule import LIMIT_MAX

    value = _whole(text)
    if value is None or not 1 <= value <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f'"{text}": a whole number from 1 to {LIMIT_MAX} is wanted')
    return value


def positive(text: str) -> int:
    value = _whole(text)
    if value is None or value < 1:
        raise argparse.ArgumentTypeError(f'"{text}": a whole number of 1 or more is wanted')
    return value


def not_negative(text: str) -> int:
    value = _whole(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f'"{text}": a whole number of 0 or more is wanted')
    return value


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def positive_rate(text: str) -> float:
    value = _number(text)
    if not 0 < value < inf:
        raise argparse.ArgumentTypeError(f'"{text}": a number of requests a second above 0 is wanted')
    return value


def positive_seconds(text: str) -> float:
    """At most PATIENCE_S_MAX."""
    from tilehaul.config.sending import PATIENCE_S_MAX

    value = _number(text)
    if not 0 < value <= PATIENCE_S_MAX:
        raise argparse.ArgumentTypeError(
            f'"{text}": a number of seconds above 0 and up to {PATIENCE_S_MAX:g} is wanted'
        )
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return nan


def span(text: str) -> float:
    """`90`, `90s`, `10m`, `1.5h`, `30d` as seconds, > 0."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS_S else (text, "s")
    try:
        seconds = float(number) * _UNITS_S[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f'"{text}" is no span above 0, such as 90, 10m or 2h')
    return seconds


def failure_limit(text: str) -> "FailureLimit":
    """`1%` is a share, `10` a count."""
    from tilehaul.policy.fuse import FailureLimit

    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share <= 1:
                return FailureLimit(share=share)
        elif int(text) >= 0:
            return FailureLimit(count=int(text), share=None)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'"{text}" is neither a count such as 10 nor a share such as 1%')


def headers_of(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """`NAME: VALUE` lines as pairs. Raises PlanError, which does not repeat what may be a key."""
    pairs = []
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name.strip() or any(char in line for char in "\r\n\0"):
            raise PlanError("--header: write it as 'Name: value'")
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)


def check_output(path: Path, flag: str) -> None:
    """Raise PlanError for a file that has an archive's name: what is written there would take its place."""
    if path.suffix.lower() in (".mbtiles", ".pmtiles", ".gpkg", ".journal"):
        raise PlanError(f"{flag} {path} would take the place of an archive: give it another name")


def plural(count: int, one: str) -> str:
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def size_text(count_bytes: float) -> str:
    """1,234,567 -> "1.2 MB" (decimal units, as disks are sold)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} TB"


def shown(text: str) -> str:
    """Text that others wrote, safe for a terminal: control and formatting characters become `?`."""
    return "".join(c if c.isprintable() else " " if c in "\r\n\t" else "?" for c in text)


def run_async(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine on uvloop where it exists."""
    import asyncio

    from tilehaul.net.loops import new_loop

    async def call() -> T:
        return await main()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(call())


async def until_signal() -> None:
    """Wait for Ctrl-C or SIGTERM. Where the loop has no handlers (Windows) Ctrl-C is a KeyboardInterrupt."""
    import asyncio
    import signal

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:
            break
    await stop.wait()


def colour_wanted() -> bool:
    """Colour and bars are for terminals, and never where NO_COLOR is set (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
