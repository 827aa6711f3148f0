"""`tilehaul seed --dry-run`: what a job will come to, before it is begun."""

import argparse
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tilehaul.cli import exit_codes
from tilehaul.cli.common import plural, run_async, size_text
from tilehaul.cli.job import encoding_of, seed_options
from tilehaul.cli.watching import Watcher, duration_text
from tilehaul.errors import PlanError

if TYPE_CHECKING:
    from tilehaul.grid.area import Area
    from tilehaul.policy.estimate import Estimate, ZoomEstimate
    from tilehaul.policy.prices import BucketCost
    from tilehaul.wiring.sampling import Sample

# The mean of 32 tile services in the field is between 10 and 20 kB a tile; used without a sample only.
TILE_BYTES_GUESS = 15_000
# A sample is for an estimate: more than this is a download, which is what a seed is for.
SAMPLE_MAX = 10_000


def check_sample(options: argparse.Namespace) -> None:
    """Raise PlanError for a `--sample` that makes no sense."""
    if options.sample is None:
        return
    if not options.dry_run:
        raise PlanError("--sample is for --dry-run: a seed asks for every tile")
    if options.sample > SAMPLE_MAX:
        raise PlanError(f"--sample {options.sample}: at most {SAMPLE_MAX:,}; some hundreds tell enough")


@dataclass(frozen=True, slots=True)
class _Speed:
    """Tiles a second, and what the job takes at that; `_most`, `_least`: at best. None: not known."""

    rate_per_s: float | None
    rate_most_per_s: float | None
    hours: float | None
    hours_least: float | None


def dry_run(options: argparse.Namespace, area: "Area") -> int:
    """Count the tiles; with `--sample` ask for some of them. Nothing is written. Raises as `sample`."""
    from tilehaul.wiring.checking import check_places

    check_places(options.source, options.store, seed_options(options).sending)
    by_zoom = area.count_by_zoom()
    if options.sample is None:
        return _count(options, by_zoom)
    return run_async(lambda: _sample(options, area, by_zoom))


def _count(options: argparse.Namespace, by_zoom: dict[int, int]) -> int:
    total = sum(by_zoom.values())
    guess = total * TILE_BYTES_GUESS
    cost = _cost(options.store, total, guess)
    if options.json:
        counts = {str(zoom): count for zoom, count in by_zoom.items()}
        told = {"planned": total, "by_zoom": counts, "bytes_guess": guess}
        print(json.dumps(told if cost is None else {**told, "cost": asdict(cost)}))
        return exit_codes.COMPLETE
    for zoom, count in by_zoom.items():
        print(f"  zoom {zoom:>2}  {count:>16,}")
    print(f"  in all   {total:>16,} tiles, about {size_text(guess)} at 15 kB a tile (--sample N measures)")
    if cost is not None:
        _print_cost(cost)
    return exit_codes.COMPLETE


async def _sample(options: argparse.Namespace, area: "Area", by_zoom: dict[int, int]) -> int:
    from random import Random

    from tilehaul.policy.estimate import estimate, shares_of
    from tilehaul.wiring.sampling import drawn, sample

    # The same command asks for the same tiles: what lies in the caches between is not asked of the origin.
    tiles = drawn(area, by_zoom, shares_of(by_zoom, options.sample), Random(area.identity))
    watcher = Watcher(quiet=options.quiet, as_json=False, max_wait_s=options.max_wait)
    watcher.say(f"asking for a sample of {plural(len(tiles), 'tile')} ...")
    sending = seed_options(options).sending
    try:
        came = await sample(
            options.source, tiles, sending=sending, encoding=encoding_of(options), watch=watcher
        )
    finally:
        watcher.close()
    judged = estimate(by_zoom, came.zooms)
    speed = _speed(came, judged.tiles)
    cost = _cost(options.store, judged.present, judged.bytes)
    if options.json:
        print(json.dumps(_record(judged, came, speed, cost)))
        return exit_codes.COMPLETE
    _print_zooms(judged)
    _print_sample(came)
    _print_time(came, speed)
    if cost is not None:
        _print_cost(cost)
    return exit_codes.COMPLETE


def _speed(came: "Sample", tiles: int) -> _Speed:
    from tilehaul.policy.estimate import rate_at_most, rate_measured

    bound_per_s = came.rate_bound_per_s
    measured = rate_measured(came.moved, came.elapsed_s, bound_per_s)
    most = rate_at_most(came.in_flight_max, came.fetch_s, bound_per_s)
    rates = [None if rate is None else rate * came.per_request for rate in (measured, most)]
    hours = [None if rate is None else tiles / rate / 3600 for rate in rates]
    return _Speed(rates[0], rates[1], hours[0], hours[1])


def _cost(store: str, tiles: float, kept_bytes: float) -> "BucketCost | None":
    """None when the store is no bucket."""
    from tilehaul.config.locations import parse_location
    from tilehaul.policy.prices import PRICES, bucket_cost

    place = parse_location(store)
    if place.kind != "bucket":
        return None
    price = PRICES[place.text.partition("://")[0].lower()]
    return bucket_cost(price, tiles=tiles, kept_bytes=kept_bytes)


def _record(judged: "Estimate", came: "Sample", speed: _Speed, cost: "BucketCost | None") -> dict[str, Any]:
    return {
        "planned": judged.tiles,
        "by_zoom": {str(one.zoom): one.tiles for one in judged.zooms},
        "bytes": round(judged.bytes),
        "bytes_margin": round(judged.bytes_margin),
        "absent_share": judged.absent_share,
        "zooms": [{**asdict(one), "bytes": round(one.bytes)} for one in judged.zooms],
        "sample": {
            "answered": came.answered,
            "failed": came.failed,
            "requests": came.requests,
            "elapsed_s": came.elapsed_s,
            "fetch_s": came.fetch_s,
        },
        **asdict(speed),
        "rate_bound_per_s": came.rate_bound_per_s,
        "in_flight": came.in_flight,
        "in_flight_max": came.in_flight_max,
        "tiles_per_request": came.per_request,
        "cost": None if cost is None else asdict(cost),
    }


def _print_zooms(judged: "Estimate") -> None:
    print("  zoom             tiles  sampled      bytes a tile          in all  absent")
    for one in judged.zooms:
        print(_zoom_line(one))
    print(
        f"  in all {judged.tiles:>15,}  {size_text(judged.bytes)} +- {size_text(judged.bytes_margin)}"
        f" (95 %), {judged.absent_share:.1%} absent, which count as 0 bytes"
    )


def _zoom_line(one: "ZoomEstimate") -> str:
    each = f"{one.mean_bytes:,.0f} +- {one.margin_bytes:,.0f}"
    line = (
        f"  {one.zoom:>4}  {one.tiles:>16,}  {one.answered:>7,}  {each:>16}  {size_text(one.bytes):>14}"
        f"  {one.absent_share:>6.1%}"
    )
    return line if one.like_zoom is None else f"{line}  not sampled, as zoom {one.like_zoom}"


def _print_sample(came: "Sample") -> None:
    words = (
        f"  sample   {came.answered:,} answered in {came.elapsed_s:.1f} s, {plural(came.requests, 'request')}"
    )
    print(f"{words}, {came.failed:,} failed" if came.failed else words)


def _print_time(came: "Sample", speed: "_Speed") -> None:
    if speed.rate_per_s is None or speed.hours is None:
        print("  time     too short to measure")
        return
    words = f"  time     about {duration_text(speed.hours * 3600)} at {speed.rate_per_s:,.3g} tiles/s,"
    words += (
        f" as the sample came with {came.in_flight} under way" if came.in_flight else " as the sample came"
    )
    if came.per_request > 1:
        words += f", {came.per_request} tiles in a request"
    if came.rate_bound_per_s is not None:
        words += f"; {came.rate_bound_per_s:g} requests/s are allowed"
    print(words)
    if speed.hours_least is not None and speed.hours_least < speed.hours:
        at_best, fetch_ms = duration_text(speed.hours_least * 3600), came.fetch_s * 1000
        print(
            f"           {at_best} if {came.in_flight_max} under way are answered as fast as these, each in"
            f" {fetch_ms:,.0f} ms: a lane finds out little by little"
        )


def _print_cost(cost: "BucketCost") -> None:
    price = cost.price
    print(
        f"  cost     {cost.writes:,} writes at ${price.write_usd:g} a million = ${cost.write_usd:,.2f}; kept,"
        f" ${cost.month_usd:,.2f} a month at ${price.month_usd:g} a GB"
    )
    print(f"           list price of {price.name}, read {price.date} ({price.source}); look up yours")
