"""What layers may send to a host that several of them ask: what the most modest of them says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tilehaul.config.buckets import bucket_place
from tilehaul.config.locations import parse_location
from tilehaul.config.settings import LayerSettings
from tilehaul.errors import PlanError
from tilehaul.net.addresses import host_port_of
from tilehaul.policy.limit_rule import lane_most
from tilehaul.wiring.named import xyz_urls
from tilehaul.wiring.places import lane_class_of
from tilehaul.wiring.remote import remote_url


@dataclass(frozen=True, slots=True)
class LaneWish:
    """What is allowed at a host: requests at once and a second (None: any), seconds for one attempt."""

    concurrency: int
    rate_limit: float | None
    timeout_s: float

    def within(self, other: "LaneWish") -> "LaneWish":
        """The lesser of both, in each."""
        rates = [rate for rate in (self.rate_limit, other.rate_limit) if rate is not None]
        return LaneWish(
            min(self.concurrency, other.concurrency),
            min(rates, default=None),
            min(self.timeout_s, other.timeout_s),
        )


def shared_wishes(layers: Mapping[str, LayerSettings], environ: Mapping[str, str]) -> dict[str, LaneWish]:
    """By host ("host:port") what all layers that ask it allow.

    Raises PlanError, ConfigError: as `parse_location`, `parse_template` and `bucket_place`, naming the layer.
    """
    wishes: dict[str, LaneWish] = {}
    for name, layer in layers.items():
        for location in [layer.source] if isinstance(layer.source, str) else layer.source:
            try:
                own = wish_of(layer, location)
                hosts = hosts_of(location, environ)
            except PlanError as error:
                raise PlanError(f"layers.{name}: {error}") from error
            for host in hosts:
                wishes[host] = own.within(wishes.get(host, own))
    return wishes


def wish_of(layer: LayerSettings, location: str) -> LaneWish:
    """What the layer alone would allow where this location is."""
    most = lane_most(lane_class_of(parse_location(location)), cap=layer.concurrency)
    return LaneWish(most, layer.rate_limit, layer.timeout)


def wish_at(
    layer: LayerSettings, location: str, hosts: Iterable[str], all_wishes: Mapping[str, LaneWish]
) -> LaneWish:
    """What the layer may do where this location is, in a company of layers: see `shared_wishes`."""
    wish = wish_of(layer, location)
    for host in hosts:
        wish = wish.within(all_wishes[host])
    return wish


def hosts_of(location: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The "host:port" that a location is asked at; none for what lies on this machine's disks."""
    place = parse_location(location)
    if place.kind == "bucket":
        return (host_port_of(bucket_place(place.text, environ).url),)
    if place.kind in ("xyz", "provider"):
        return tuple({host_port_of(url) for url in xyz_urls(place)})
    if place.kind == "remote":
        return (host_port_of(remote_url(place, environ)[0]),)
    if place.kind in ("wms", "wmts", "tms"):
        return (host_port_of(place.text.partition("+")[2]),)
    return ()
