"""Who `serving.py` is measured beside, besides nginx: Varnish and MapProxy, left out where they are missing.

MapProxy lives in an environment of its own, made as `.ci/run` makes it:

    python3 -m venv .venv-mapproxy
    .venv-mapproxy/bin/python -m pip install --require-hashes -r requirements-mapproxy.lock

TILEHAUL_MAPPROXY_BIN names the `bin` of another.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from origin import Running, free_port

MAPPROXY_BIN = Path(
    os.environ.get("TILEHAUL_MAPPROXY_BIN")
    or Path(__file__).resolve().parent.parent / ".venv-mapproxy" / "bin"
)
MAPPROXY_WORKERS, MAPPROXY_THREADS = 2, 4
# Debian keeps servers here, which is in the path of root alone.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
START_S_MAX = 30.0

# The rows of an MBTiles file are counted from the south, addresses below /tiles from the north.
_MAPPROXY = """services:
  tms: {{use_grid_names: true, origin: nw}}
layers:
  - {{name: tiles, title: tiles, sources: [tiles]}}
caches:
  tiles:
    grids: [world]
    sources: []
    format: image/png
    meta_size: [1, 1]
    cache: {{type: mbtiles, filename: '{archive}'}}
grids:
  world: {{base: GLOBAL_WEBMERCATOR, origin: sw}}
globals:
  cache: {{base_dir: '{home}/cache', lock_dir: '{home}/locks', tile_lock_dir: '{home}/tile_locks'}}
"""
MAPPROXY_PATH = "/tiles/tiles/world"

_VARNISH = """vcl 4.1;
backend files {{ .host = "127.0.0.1"; .port = "{port}"; }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
sub vcl_deliver {{ set resp.http.X-Cache = "MISS"; if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} }}
"""


def varnish_missing() -> str:
    """Why there is no Varnish here; empty when there is. It compiles its configuration, with gcc."""
    gone = [program for program in ("varnishd", "gcc") if not shutil.which(program, path=PATH)]
    return f"Varnish left out: {' and '.join(gone)} not installed" if gone else ""


def mapproxy_missing() -> str:
    gone = [program for program in ("gunicorn", "mapproxy-util") if not (MAPPROXY_BIN / program).exists()]
    return f"MapProxy left out: no {' and '.join(gone)} in {MAPPROXY_BIN.parent.name}" if gone else ""


def versions() -> str:
    """What was measured, in words."""
    told = [_version("Varnish", "varnishd", "-V")] if not varnish_missing() else []
    if not mapproxy_missing():
        told += [
            _version("MapProxy", str(MAPPROXY_BIN / "mapproxy-util"), "--version"),
            _version("gunicorn", str(MAPPROXY_BIN / "gunicorn"), "--version"),
        ]
    return ", ".join(told)


def _version(name: str, *command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": PATH}
    )
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return f"{name} {found[0]}" if found else f"{name} of unknown version"


@contextlib.contextmanager
def varnish(folder: Path, origin: Running) -> Iterator[Running]:
    """Varnish with its cache in memory before `origin`, logging switched off as far as it goes."""
    port, home = free_port(), folder / "varnish"
    home.mkdir()
    (home / "tiles.vcl").write_text(_VARNISH.format(port=origin.url.rpartition(":")[2]))
    command = [
        *("varnishd", "-F", "-a", f"127.0.0.1:{port}", "-T", "none", "-f", str(home / "tiles.vcl")),
        *("-s", "malloc,256m", "-n", str(home / "work")),
        # Its own users may not read a private folder.
        *(("-j", "none") if os.geteuid() == 0 else ()),
    ]
    with _started(command, f"http://127.0.0.1:{port}", "/") as server:
        yield server


@contextlib.contextmanager
def mapproxy(folder: Path, archive: Path) -> Iterator[Running]:
    """MapProxy under gunicorn, over a copy of the archive: it opens files for writing."""
    port, home = free_port(), folder / "mapproxy"
    home.mkdir()
    shutil.copyfile(archive, home / "tiles.mbtiles")
    config = home / "mapproxy.yaml"
    config.write_text(_MAPPROXY.format(archive=home / "tiles.mbtiles", home=home))
    (home / "served.py").write_text(
        f"from mapproxy.wsgiapp import make_wsgi_app\napplication = make_wsgi_app({str(config)!r})\n"
    )
    command = [
        *(str(MAPPROXY_BIN / "gunicorn"), "-b", f"127.0.0.1:{port}", "--chdir", str(home)),
        *("-w", str(MAPPROXY_WORKERS), "--threads", str(MAPPROXY_THREADS), "--keep-alive", "60"),
        "served:application",
    ]
    with _started(command, f"http://127.0.0.1:{port}", f"{MAPPROXY_PATH}/0/0/0.png") as server:
        yield server


@contextlib.contextmanager
def _started(command: list[str], url: str, path: str) -> Iterator[Running]:
    """A server that has answered, whatever it said."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": PATH},
    )
    try:
        ends_s = time.monotonic() + START_S_MAX
        while True:
            with contextlib.suppress(urllib.error.HTTPError):
                try:
                    urllib.request.urlopen(f"{url}{path}", timeout=5).close()
                except urllib.error.HTTPError:
                    raise
                except OSError:
                    if process.poll() is not None or time.monotonic() > ends_s:
                        raise SystemExit(f"{command[0]} does not answer at {url}") from None
                    time.sleep(0.05)
                    continue
            break
        yield Running(url, process.pid)
    finally:
        process.terminate()
        process.wait()
