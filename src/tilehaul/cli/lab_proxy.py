"""`tilehaul lab proxy`: a TCP proxy that harms the connections it carries."""

import argparse
import json
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, not_negative, plural, run_async, size_text, until_signal

if TYPE_CHECKING:
    from tilehaul.lab.fault_proxy import FaultProxy

_EXAMPLES = """\
  tilehaul lab proxy http://127.0.0.1:8001/{z}/{x}/{y}.png       pass everything on, count
  tilehaul lab proxy URL --fault delay=0.2 --fault throttle=20000
  tilehaul lab proxy URL --fault cut=5000@3                      the third connection ends after 5,000 bytes
  tilehaul lab proxy URL --fault reset@2-5 --fault 'reset=500@10%' --seed 7
  tilehaul lab proxy URL --fault black_hole@60s-                 silence, after a minute
  tilehaul lab proxy URL --fault refuse@5s-10s/10s               5 s up, 5 s down, again and again

A fault is KIND[=AMOUNT][@WHEN,...]; --fault can be repeated, and all of a WHEN must hold.
  delay=S          bytes from the upstream come S seconds later
  throttle=N       ... at N bytes a second
  cut[=N]          closed after N bytes from the upstream; without N before it is asked
  reset[=N]        the same with a RST
  black_hole[=N]   open and silent after N bytes; without N from the beginning
  refuse           nobody listens
  WHEN             3, 2-5, 4- (connections, from 1), 10% (of them), 5s-10s, 5s-, 5s-10s/20s (every 20 s)

Bytes pass as they are, the Host header too. Give the address it prints to the client under test.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `proxy` to the experiments."""
    parser = add_command(
        subparsers,
        "proxy",
        summary="carry connections to a server, and harm them",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("upstream", metavar="UPSTREAM_URL", help="where to: http://host:port/...")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="FAULT", help="see below; repeatable (default: none)"
    )
    parser.add_argument("--port", type=not_negative, default=0, metavar="N", help="default: any free one")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all luck (default: 0)")
    parser.add_argument("--json", action="store_true", help="address and counts as JSON, one object a line")


def run(args: argparse.Namespace) -> int:
    """Carry until Ctrl-C or SIGTERM; that is a good end. Raises ConfigError, as for a port in use."""
    from tilehaul.lab.fault_proxy import FaultProxy
    from tilehaul.lab.link_faults import LinkPlan

    plan = LinkPlan.of(*args.fault, seed=args.seed)
    proxy = FaultProxy(args.upstream, plan, host=args.host, port=args.port)
    try:
        run_async(lambda: _carry(proxy, args.upstream, as_json=args.json))
    except KeyboardInterrupt:
        pass  # where signals cannot be handled by the loop (Windows)
    _print_end(proxy, as_json=args.json)
    return exit_codes.COMPLETE


async def _carry(proxy: "FaultProxy", upstream: str, *, as_json: bool) -> None:
    async with proxy:
        address = proxy.url_of(upstream)
        if as_json:
            print(json.dumps({"event": "started", "address": address}), flush=True)
        else:
            print(f"tilehaul lab proxy: {address}", flush=True)
        await until_signal()


def _print_end(proxy: "FaultProxy", *, as_json: bool) -> None:
    """One line of counts."""
    stats = proxy.stats()
    if as_json:
        from dataclasses import asdict

        print(json.dumps({"event": "stopped", **asdict(stats)}), flush=True)
        return
    faults = ", ".join(f"{count:,} x {kind}" for kind, count in stats.by_fault.items())
    print(
        f"\ntilehaul lab proxy: stopped after {plural(stats.connections, 'connection')},"
        f" {size_text(stats.bytes_up)} up, {size_text(stats.bytes_down)} down (faults: {faults or 'none'})",
        flush=True,
    )
