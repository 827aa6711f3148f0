"""Settings become the layers of a service, and other settings other layers while it runs."""

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tilehaul.config.providers import with_providers
from tilehaul.config.reading import Place
from tilehaul.config.settings import Settings
from tilehaul.errors import StorageError
from tilehaul.jobs.layer import Layer
from tilehaul.net.lane_pool import LanePool
from tilehaul.policy.keyring import ApiKey
from tilehaul.policy.share import WHOLE, Share
from tilehaul.ports.lane import ProcessFigures
from tilehaul.wiring.caches import Caches, open_caches
from tilehaul.wiring.layer_opening import Company, OpenedLayer, files_of, open_layer
from tilehaul.wiring.ready_checks import Check, cache_check, origins_check
from tilehaul.wiring.shared_lanes import shared_wishes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layers:
    """What a service serves, opened. `caches` and `process` are of all layers together.

    `checks`: the conditions of `/health/ready` that the settings ask for.
    """

    layers: tuple[Layer, ...]
    caches: Caches
    process: Callable[[], ProcessFigures]
    checks: Mapping[str, Check]


@asynccontextmanager
async def open_layers(settings: Settings, share: Share = WHOLE) -> AsyncIterator[Layers]:
    """Open every layer of the settings. Raises as `open_source`, naming the layer."""
    generation = await open_generation(settings, share=share)
    try:
        yield generation.layers()
    finally:
        await generation.close()


def api_keys(settings: Settings) -> tuple[ApiKey, ...]:
    """The keys of the settings, each with the private layers it opens."""
    private = frozenset(name for name, layer in settings.layers.items() if layer.private)
    return tuple(
        ApiKey(name, bytes.fromhex(key.sha256), private if "*" in key.layers else frozenset(key.layers))
        for name, key in settings.keys.items()
    )


@dataclass(frozen=True, slots=True)
class Generation:
    """Layers of one state of the settings; parts of it may be those of the generation before.

    `lanes_stack` ends the lanes, `caches_stack` closes the caches.
    """

    company: Company
    opened: Mapping[str, OpenedLayer]
    lanes_stack: AsyncExitStack
    caches_stack: AsyncExitStack

    def layers(self) -> Layers:
        opened, caches = self.opened.values(), self.company.caches
        sources = [source for one in opened for source in one.sources]
        return Layers(
            tuple(one.layer for one in opened),
            caches,
            lambda: ProcessFigures(threading.active_count(), sum(source.connections() for source in sources)),
            dict(self._checks()),
        )

    def _checks(self) -> list[tuple[str, Check]]:
        needs, caches = self.company.settings.server.ready_needs, self.company.caches
        checks: list[tuple[str, Check]] = []
        if "archives" in needs:
            told = {name: one for name, one in self.opened.items() if one.readable is not None}
            checks += [
                (f"archive of {name}", _whole(one)) for name, one in told.items() if not one.layer.private
            ]
            # Anybody may ask: what exists for nobody without a key has no name here.
            if private := [one for one in told.values() if one.layer.private]:
                checks.append(("archives of private layers", _whole(*private)))
        if "cache" in needs and (check := cache_check(caches)) is not None:
            checks.append(("cache", check))
        if "origins" in needs:
            sources = [source for one in self.opened.values() for source in one.sources]
            checks.append(("origins", origins_check(sources, caches)))
        return checks

    async def close(self, *, but_for: "Generation | None" = None) -> None:
        """Close it all, except what `but_for` goes on with. No request is under way any more."""
        kept = set() if but_for is None else {id(one) for one in but_for.opened.values()}
        for one in reversed(list(self.opened.values())):
            if id(one) not in kept:
                await one.stack.aclose()
        if but_for is None or but_for.caches_stack is not self.caches_stack:
            await self.caches_stack.aclose()
        # Last: until then a layer may still send.
        if but_for is None or but_for.lanes_stack is not self.lanes_stack:
            await self.lanes_stack.aclose()

    async def forget_others_tiles(self, before: "Generation") -> None:
        """Drop from the caches what they have of layers of `before` that are gone or come from elsewhere."""
        for name, one in before.opened.items():
            now = self.opened.get(name)
            if now is None or not now.gives_the_same(one):
                try:
                    await self.company.caches.forget(name, lambda _: True)
                except StorageError as error:
                    log.warning("layer %s: the disk cache may hold tiles of before: %s", name, error)


async def open_generation(
    settings: Settings,
    before: Generation | None = None,
    *,
    share: Share = WHOLE,
    held: Callable[[str, float], None] | None = None,
) -> Generation:
    """Open what the settings name; what is the same in `before` is taken over, open as it is.

    A layer is taken over with its caches, lanes and connections when nothing of it or of what it shares with
    others has changed. One that is opened anew keeps its lanes, with what they have learned, as long as every
    host is asked as before; and its statistics always. `held`: see `LanePool`.

    Raises as `open_source`, naming the layer; then `before` is as it was, and nothing else is open.
    """
    providers = with_providers(settings.providers, Place("providers"))
    wishes = shared_wishes(settings.layers, os.environ)
    same_caches = before is not None and before.company.settings.cache == settings.cache
    same_lanes = before is not None and _asks_alike(before.company, settings, wishes)
    async with AsyncExitStack() as undo:
        lanes_stack, caches_stack = AsyncExitStack(), AsyncExitStack()
        if before is not None and same_lanes:
            pool, lanes_stack = before.company.pool, before.lanes_stack
        else:
            pool = LanePool(held)
            lanes_stack.push_async_callback(pool.aclose)
            undo.push_async_callback(lanes_stack.aclose)
        if before is not None and same_caches:
            caches, caches_stack = before.company.caches, before.caches_stack
        else:
            caches = await caches_stack.enter_async_context(open_caches(settings.cache))
            undo.push_async_callback(caches_stack.aclose)
        company = Company(settings, providers, caches, pool, wishes, share)
        opened: dict[str, OpenedLayer] = {}
        for name, layer in settings.layers.items():
            known = None if before is None else before.opened.get(name)
            same = same_caches and same_lanes and known is not None and known.settings == layer
            if known is not None and same and files_of(layer) == known.files:
                opened[name] = known
                continue
            one = await open_layer(name, layer, company, stats=None if known is None else known.layer.stats)
            undo.push_async_callback(one.stack.aclose)
            opened[name] = one
        undo.pop_all()
        return Generation(company, opened, lanes_stack, caches_stack)


def _asks_alike(before: Company, settings: Settings, wishes: Mapping[str, object]) -> bool:
    """Whether every host that both know is asked in the same way."""
    was = before.settings
    return (was.contact, was.providers, was.allow_private) == (
        settings.contact,
        settings.providers,
        settings.allow_private,
    ) and all(before.wishes[host] == wish for host, wish in wishes.items() if host in before.wishes)


def _whole(*layers: OpenedLayer) -> Check:
    checks = [one.readable for one in layers if one.readable is not None]

    async def check() -> bool:
        return all([await readable() for readable in checks])

    return check
