"""What the benchmarks measure against: nginx and tilehaul's own servers, each in a process of its own.

All listen on 127.0.0.1 on free ports, keep their files in the folder they are given, and are ended by
their process id. `python benchmarks/origin.py` serves the tiles until Ctrl-C, for a look by hand.
"""

import contextlib
import json
import math
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import PLAIN_BYTES_MIN, plain_png

FILES = 200
TILE_BYTES_MEAN = 15_000
# Sizes of tiles of one map lie this far apart: a third of them below 9 kB, a few above 40 kB.
_SIGMA = 0.6
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A server: its address without a slash at the end, and the process that was started."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """User and system time so far of the process and all below it.

        From /proc (proc(5), `stat`, fields 14 to 17). Those that have ended are counted where their parent
        has waited for them.
        """
        ticks = 0
        for pid in family(self.pid):
            # The name in brackets may hold spaces; the numbers begin behind it.
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except FileNotFoundError:
                continue
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / _TICKS_PER_S

    def peak_mb(self) -> float:
        """The most memory (resident) that the process itself ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def family(pid: int) -> list[int]:
    """A process and all below it; a child stands with the thread that started it."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):
            for child in children.read_text().split():
                found += family(int(child))
    return found


def missing(*programs: str) -> str:
    """The programs that are not installed, in words; empty when all are."""
    gone = [program for program in programs if not shutil.which(program)]
    return f"SKIPPED: {' and '.join(gone)} not installed" if gone else ""


# --- tiles ----------------------------------------------------------------------------------------


def tile_ids(count: int) -> list[TileId]:
    """The first tiles of the world in the order of a seed, at most those of zoom 0 to 7."""
    return list(islice(Area.from_bbox(-180.0, -85.05, 180.0, 85.05, zooms=range(8)), count))


def tile_sizes() -> list[int]:
    """Bytes of the FILES bodies: log-normal, mean TILE_BYTES_MEAN, the same in every run."""
    luck = random.Random(1)
    mu = math.log(TILE_BYTES_MEAN) - _SIGMA**2 / 2
    drawn = [luck.lognormvariate(mu, _SIGMA) for _ in range(FILES)]
    scale = TILE_BYTES_MEAN * FILES / sum(drawn)
    return [max(PLAIN_BYTES_MIN, round(size * scale)) for size in drawn]


def bytes_of(count: int) -> int:
    """What the first `count` tiles of `tile_ids` weigh, to check that a client really got them."""
    sizes = tile_sizes()
    return sum(sizes[number % FILES] for number in range(count))


def write_tiles(root: Path, count: int) -> None:
    """`count` addresses `z/x/y.png` that share FILES valid PNG files."""
    sizes = tile_sizes()
    bodies: list[Path] = []
    for number, tile_id in enumerate(tile_ids(count)):
        path = root / f"{tile_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < FILES:
            path.write_bytes(plain_png(tile_id, size_bytes=sizes[number]))
            bodies.append(path)
        else:
            os.link(bodies[number % FILES], path)


# --- servers --------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise SystemExit(f"the server on port {port} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        time.sleep(0.01)
    raise SystemExit(f"no server on port {port}")


@contextlib.contextmanager
def nginx(folder: Path, location: str, *, http: str = "") -> Iterator[Running]:
    """One worker with `location` as the block of `/`, and `http` beside the server block."""
    port = free_port()
    home = folder / f"nginx-{port}"
    home.mkdir()
    # Started by root, the worker would be `nobody`, who may not read a private folder.
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
    conf = home / "nginx.conf"
    conf.write_text(
        f"daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log; {user}\n"
        f"events {{ worker_connections 1024; }}\nhttp {{ access_log off; sendfile on; tcp_nopush on;\n"
        f"keepalive_requests 100000000; types {{ image/png png; }} {temporary}\n{http}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ {location} }} }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(conf), "-e", f"{home}/error.log"])
    try:
        _await_port(port, process)
        yield Running(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


def nginx_files(folder: Path, root: Path) -> contextlib.AbstractContextManager[Running]:
    """Nginx serving files."""
    return nginx(folder, f"root {root};")


def nginx_cache(folder: Path, origin: Running) -> contextlib.AbstractContextManager[Running]:
    """Nginx with proxy_cache before `origin`. The cache's place in memory is the kernel's page cache."""
    zone = f"proxy_cache_path {folder}/proxy-cache levels=1:2 keys_zone=tiles:10m max_size=1g;"
    block = (
        f"proxy_pass {origin.url}; proxy_cache tiles; proxy_cache_valid 200 1h; "
        "add_header X-Cache $upstream_cache_status;"
    )
    return nginx(folder, block, http=zone)


@contextlib.contextmanager
def tilehaul(*words: str) -> Iterator[tuple[Running, dict[str, str]]]:
    """`tilehaul WORDS --json`: the server, and the first object it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tilehaul", *words, "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"tilehaul {words[0]} did not start")
        told = json.loads(line)
        base = re.match(r"https?://[^/]+", told.get("url") or told["template"])
        assert base is not None
        yield Running(base[0], process.pid), told
    finally:
        process.terminate()
        process.communicate()


def slow_mock(
    latency_ms: int, jitter_ms: int = 0
) -> contextlib.AbstractContextManager[tuple[Running, dict[str, str]]]:
    """`tilehaul mock` that answers after `latency_ms`, evenly spread over +-`jitter_ms`; plain tiles."""
    spread = ("--latency-distribution", "uniform", "--jitter-ms", str(jitter_ms))
    return tilehaul(
        *("mock", "--port", "0", "--tile-bytes", str(TILE_BYTES_MEAN), "--latency-ms", str(latency_ms)),
        *(spread if jitter_ms else ("--latency-distribution", "fixed")),
    )


# --- wrk ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WrkResult:
    """`cpu_us`: CPU of wrk itself per request. `p50_ms` and `p99_ms`: of a request, by wrk's own clock."""

    requests: int
    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


def wrk(
    folder: Path, base: str, requests: Sequence[tuple[str, str]], *, seconds: int, connections: int = 50
) -> WrkResult:
    """One thread, requests in random order, each connection asking again as soon as it is answered.

    Args:
        folder: For the script.
        base: Address without a path.
        requests: Path, and the ETag to send as If-None-Match (empty: none).
        seconds: How long.
        connections: At once.
    """
    lines = ",\n".join(f"{{{json.dumps(path)}, {json.dumps(etag)}}}" for path, etag in requests)
    script = folder / "requests.lua"
    script.write_text(
        f"local asked = {{\n{lines}\n}}\nlocal ready = {{}}\n"
        "function init(args)\n  math.randomseed(7)\n"
        "  for n, one in ipairs(asked) do\n"
        '    local headers = one[2] ~= "" and {["If-None-Match"] = one[2]} or {}\n'
        '    ready[n] = wrk.format("GET", one[1], headers)\n  end\nend\n'
        "function request() return ready[math.random(#ready)] end\n"
    )
    # A slow server is slow, not broken: 2 s is wrk's own patience.
    how = ("-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency")
    command = ["wrk", *how, "-s", str(script), base]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status or "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"wrk at {base}:\n{text}")
    count = int(text.partition(" requests in ")[0].split()[-1])
    per_s = float(text.partition("Requests/sec:")[2].split()[0])
    used_us = (usage.ru_utime + usage.ru_stime) / count * 1e6
    return WrkResult(count, per_s, used_us, _percentile_ms(text, 50), _percentile_ms(text, 99))


def _percentile_ms(text: str, percent: int) -> float:
    """Of wrk's table, as in `99%    1.25ms`."""
    found = re.search(rf"^ +{percent}% +([0-9.]+)(us|ms|s|m)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[found[2]]


def main() -> None:
    if reason := missing("nginx"):
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiles(folder / "tiles", 5_461)
        with nginx_files(folder, folder / "tiles") as server:
            print(f"{server.url}/{{z}}/{{x}}/{{y}}.png, zooms 0 to 6; Ctrl-C ends", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(1)


if __name__ == "__main__":
    main()
