"""`tilehaul serve`: tiles and a map page of archives and tile services."""

import argparse
import getpass
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tilehaul.cli import exit_codes
from tilehaul.cli.common import add_command, add_providers_flag, positive, run_async
from tilehaul.errors import ConfigError, PlanError, TilehaulError

if TYPE_CHECKING:
    from tilehaul.cli.announcing import Announcer
    from tilehaul.cli.serving import Serving
    from tilehaul.cli.wishes import Wishes
    from tilehaul.cli.workers import Workers
    from tilehaul.config.settings import Settings

_EXAMPLES = """\
  tilehaul serve world.mbtiles                              a map page of one archive
  tilehaul serve world.mbtiles tiles/ 'https://host/{z}/{x}/{y}.png'
  tilehaul serve photos=./tiles --port 0                    a name of its own, a free port
  tilehaul serve --config tilehaul.yaml --host 0.0.0.0      layers from a file; SIGHUP reads it anew

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
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes that answer (default: 1; see docs/operate.md)",
    )
    parser.add_argument("--jobs", metavar="FOLDER", help="let clients start seeds into this folder")
    parser.add_argument("--cache-memory", metavar="SIZE", help="memory for tiles (default: 256MB)")
    parser.add_argument("--cache-disk", metavar="SIZE", help="disk for tiles (default: none)")
    parser.add_argument("--cache-path", metavar="FOLDER", help="where, with --cache-disk")
    parser.add_argument("--contact", metavar="WHO", help="mail or page for the User-Agent")
    parser.add_argument(
        "--hash-key",
        action="store_true",
        help="read a key, print its hash for `keys:`, and end; no key: make one",
    )
    add_providers_flag(parser)
    parser.add_argument("--json", action="store_true", help="the address as a JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="errors only")


def run(options: argparse.Namespace) -> int:
    if options.hash_key:
        return hash_key(sys.stdin)
    settings = settings_of(options)
    if not settings.layers:
        raise PlanError(
            "nothing to serve: name an archive (tilehaul serve world.mbtiles) or --config tilehaul.yaml"
        )
    return run_async(lambda: _serve(options, settings))


def hash_key(typed: TextIO) -> int:
    """Print the hash of a key. It is read unseen: an argument would be in the list of processes."""
    from tilehaul.policy.keyring import KEY_BYTES_MAX, KEY_CHARS_MIN, hash_of

    if typed.isatty():
        key = getpass.getpass("key (none: a new one is made): ")
    else:
        key = typed.readline().rstrip("\r\n")
    if not key:
        key = secrets.token_urlsafe(32)
        print(f"key: {key}")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise PlanError("a key is printable ASCII without blanks, for it is sent in a header")
    if not KEY_CHARS_MIN <= len(key) <= KEY_BYTES_MAX:
        raise PlanError(
            f"a key has {KEY_CHARS_MIN} to {KEY_BYTES_MAX} characters: what is short can be guessed"
        )
    print(f"sha256: {hash_of(key.encode()).hex()}")
    return exit_codes.COMPLETE


def settings_of(options: argparse.Namespace) -> "Settings":
    """The file's settings with the command line's over them. Raises ConfigError, PlanError."""
    import msgspec

    from tilehaul.config.load import load_settings, parse_settings, parse_size
    from tilehaul.config.providers import read_providers
    from tilehaul.config.settings import WORKERS_MAX, JobsSettings, Settings

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
    for flag in ("host", "port", "public_url", "workers"):
        if (value := getattr(options, flag)) is not None:
            server = msgspec.structs.replace(server, **{flag: value})
    if not 0 <= server.port <= 65535:
        raise ConfigError(f"--port {server.port} is not within 0..65535")
    if server.workers > WORKERS_MAX:
        raise ConfigError(f"--workers {server.workers} is more than {WORKERS_MAX}")
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


async def _serve(options: argparse.Namespace, settings: "Settings") -> int:
    from tilehaul.cli.announcing import Announcer
    from tilehaul.cli.logs import log_settings_of
    from tilehaul.cli.serving import Process, Serving
    from tilehaul.cli.wishes import Wishes
    from tilehaul.cli.workers import Workers

    announcer, wishes = Announcer(as_json=options.json, quiet=options.quiet), Wishes()
    service: Serving | Workers
    if settings.server.workers > 1:
        service = Workers(settings, log_settings_of(options))
    else:
        service = Serving(settings, Process())
    url = await service.start()
    wishes.listen(renewable=bool(options.config))
    announcer.started(url, list(settings.layers), service.notes)
    try:
        while await wishes.renewal():
            await _renew(service, options, wishes, announcer)
    finally:
        await service.stop(wishes.hurry)
    return exit_codes.COMPLETE


async def _renew(
    service: "Serving | Workers", options: argparse.Namespace, wishes: "Wishes", announcer: "Announcer"
) -> None:
    """Serve what the file says now, or go on as before. Given up when it is time to stop."""
    import asyncio

    try:
        settings = settings_of(options)
    except TilehaulError as error:
        announcer.refused(str(error))
        return
    renewing = asyncio.create_task(service.renew(settings))
    stop = asyncio.create_task(wishes.stop.wait())
    try:
        await asyncio.wait((renewing, stop), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    if not renewing.done():
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        return
    try:
        renewing.result()
    except TilehaulError as error:
        announcer.refused(str(error))
    else:
        announcer.renewed(list(settings.layers))
