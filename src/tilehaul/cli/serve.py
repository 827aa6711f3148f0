"""`tilehaul serve`: tiles and a map page of archives and tile services."""

import argparse
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, add_providers_flag, run_async
from tilehaul.errors import ConfigError, PlanError

if TYPE_CHECKING:
    from tilehaul.config.settings import Settings

_EXAMPLES = """\
  tilehaul serve world.mbtiles                              a map page of one archive
  tilehaul serve world.mbtiles tiles/ 'https://host/{z}/{x}/{y}.png'
  tilehaul serve photos=./tiles --port 0                    a name of its own, a free port
  tilehaul serve --config tilehaul.yaml --host 0.0.0.0      layers from a file

tiles: http://HOST:PORT/api/tiles/LAYER/{z}/{x}/{y}.png    the map: http://HOST:PORT/
"""
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})=(?P<location>.+)")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = add_command(
        subparsers,
        "serve",
        summary="serve tiles, and a map page of them, from archives and tile services",
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("layers", nargs="*", metavar="[NAME=]LOCATION", help="a layer; repeatable")
    parser.add_argument("--config", metavar="FILE", help="layers and settings from a YAML file")
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help="port; 0 takes a free one (default: 8080)")
    parser.add_argument("--public-url", metavar="URL", help="address for absolute links, behind a proxy")
    parser.add_argument("--jobs", metavar="FOLDER", help="let clients start seeds into this folder")
    parser.add_argument("--cache-memory", metavar="SIZE", help="memory for tiles (default: 256MB)")
    parser.add_argument("--cache-disk", metavar="SIZE", help="disk for tiles (default: none)")
    parser.add_argument("--cache-path", metavar="FOLDER", help="where, with --cache-disk")
    parser.add_argument("--contact", metavar="WHO", help="mail or page for the User-Agent")
    add_providers_flag(parser)
    parser.add_argument("--json", action="store_true", help="the address as a JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="errors only")


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if not settings.layers:
        raise PlanError(
            "nothing to serve: name an archive (tilehaul serve world.mbtiles) or --config tilehaul.yaml"
        )
    return run_async(lambda: _serve(settings, as_json=options.json, quiet=options.quiet))


def settings_of(options: argparse.Namespace) -> "Settings":
    """The file's settings with the command line's over them. Raises ConfigError, PlanError."""
    import msgspec

    from tilehaul.config.load import load_settings, parse_settings, parse_size
    from tilehaul.config.providers import read_providers
    from tilehaul.config.settings import JobsSettings, Settings

    settings = load_settings(Path(options.config), os.environ) if options.config else Settings()
    layers = {}
    for argument in options.layers:
        name, location = _named(argument)
        if name in layers or name in settings.layers:
            raise PlanError(f'two layers are called "{name}": name one yourself, as in other={location}')
        layers[name] = {"source": location}
    # Parsed as the file is, so that the same checks and messages hold; `$` has no meaning here.
    typed = parse_settings({"layers": layers}, {}, name="command line") if layers else Settings()
    server = settings.server
    for flag in ("host", "port", "public_url"):
        if (value := getattr(options, flag)) is not None:
            server = msgspec.structs.replace(server, **{flag: value})
    if not 0 <= server.port <= 65535:
        raise ConfigError(f"--port {server.port} is not within 0..65535")
    cache = settings.cache
    for part in ("memory", "disk"):
        if (size := getattr(options, f"cache_{part}")) is not None:
            parse_size(size, f"--cache-{part}")
            cache = msgspec.structs.replace(cache, **{part: size})
    if options.cache_path is not None:
        cache = msgspec.structs.replace(cache, path=options.cache_path)
    if (cache.disk is None) != (not cache.path):
        raise ConfigError("--cache-disk (how much) and --cache-path (where) go together")
    jobs = settings.jobs
    if options.jobs is not None:
        changed = {"folder": options.jobs}
        jobs = JobsSettings(**changed) if jobs is None else msgspec.structs.replace(jobs, **changed)
    providers = settings.providers
    if options.providers is not None:
        providers = {**providers, **read_providers(Path(options.providers))}
    return msgspec.structs.replace(
        settings,
        layers={**settings.layers, **typed.layers},
        server=server,
        cache=cache,
        jobs=jobs,
        contact=options.contact or settings.contact or os.environ.get("TILEHAUL_CONTACT", ""),
        providers=providers,
    )


def _named(argument: str) -> tuple[str, str]:
    """`photos=./tiles` as written; otherwise a name made from the location."""
    match = _NAMED.fullmatch(argument)
    if match is not None and "://" not in match["name"]:
        return match["name"], match["location"]
    if "://" in argument:
        stem = argument.partition("://")[2].partition("/")[0].rpartition("@")[2]
    else:
        stem = Path(argument).stem or Path(argument).resolve().name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64]
    return name or "layer", argument


async def _serve(settings: "Settings", *, as_json: bool, quiet: bool) -> int:
    from tilehaul.net.clock import SystemClock
    from tilehaul.server.app import Server, make_app
    from tilehaul.wiring.layers import open_layers
    from tilehaul.wiring.running_jobs import RunningJobs, may_change

    jobs = RunningJobs(settings) if settings.jobs is not None else None
    async with open_layers(settings) as opened:
        app = make_app(
            opened.layers,
            opened.caches.memory,
            clock=SystemClock(),
            public_url=settings.server.public_url,
            process=opened.process,
            disk=opened.caches.disk_stats,
            jobs=jobs,
            admin_key=settings.server.admin_key,
            forget=opened.caches.forget if may_change(settings) else None,
        )
        async with Server(app, host=settings.server.host, port=settings.server.port) as server:
            names = [layer.name for layer in opened.layers]
            if as_json:
                print(json.dumps({"event": "serve.started", "url": server.url, "layers": names}), flush=True)
            elif not quiet:
                print(f"serving {', '.join(names)} at {server.url} (Ctrl-C ends)", file=sys.stderr)
            try:
                await until_stopped()
            finally:
                app.drain()
                if jobs is not None:
                    # Before the server: whoever follows a job is told of its end.
                    await jobs.aclose()
    return exit_codes.COMPLETE


async def until_stopped() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    import asyncio

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:
            break  # Windows: Ctrl-C raises KeyboardInterrupt
    await stopped.wait()
