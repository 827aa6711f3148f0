"""The clients that seeding.py compares: what is run, with which files, how many requests at once."""

import json
import sys
from pathlib import Path

MAPCACHE = "mapcache_seed"

# Name: what is run, and how many requests at once it may have.
TILEHAUL_FLAGS = {
    "tilehaul seed -c 8": (["-c", "8"], 8),
    "tilehaul seed -c 8 --fixed": (["-c", "8", "--fixed"], 8),
    "tilehaul seed (default: up to 32)": ([], 32),
    "tilehaul seed -c 32 --fixed": (["-c", "32", "--fixed"], 32),
}
MAPPROXY_NAME, MAPCACHE_NAME = "mapproxy-seed -c 8", "mapcache_seed -n 8 (transfer)"
# By itself it gives up when more than 1 % of the last 1,000 requests failed.
MAPCACHE_PATIENT = "mapcache_seed -n 8 -P 100 (transfer)"
TILEHAUL_EIGHT, TILEHAUL_USUAL = "tilehaul seed -c 8", "tilehaul seed (default: up to 32)"
CALM = (*TILEHAUL_FLAGS, MAPCACHE_NAME, MAPPROXY_NAME)
FAULTY = (TILEHAUL_EIGHT, TILEHAUL_USUAL, MAPCACHE_NAME, MAPCACHE_PATIENT, MAPPROXY_NAME)

MAPCACHE_XML = """<?xml version="1.0" encoding="UTF-8"?>
<mapcache>
  <cache name="up" type="rest"><url>{base}/{{z}}/{{x}}/{{inv_y}}.jpg</url></cache>
  <cache name="kept" type="mbtiles"><dbfile>{folder}/out.mbtiles</dbfile></cache>
  <format name="J" type="JPEG"><quality>85</quality><photometric>ycbcr</photometric></format>
  <tileset name="up"><cache>up</cache><grid>GoogleMapsCompatible</grid><format>J</format></tileset>
  <tileset name="kept"><cache>kept</cache><grid>GoogleMapsCompatible</grid><format>J</format></tileset>
  <default_format>J</default_format>
  <locker type="disk"><directory>{folder}</directory><timeout>120</timeout></locker>
</mapcache>
"""


def _mapproxy_files(base: str, folder: Path, zoom_max: int) -> None:
    """One tile a request; rows are counted from the north by the server, from the south in MBTiles."""
    source = {"type": "tile", "grid": "north", "url": f"{base}/%(z)s/%(x)s/%(y)s.jpg"}
    kept = {"type": "mbtiles", "filename": str(folder / "out.mbtiles")}
    grids = {
        name: {"base": "GLOBAL_WEBMERCATOR", "origin": at} for name, at in (("north", "nw"), ("south", "sw"))
    }
    cache = {
        "sources": ["lab"],
        "grids": ["south"],
        "format": "image/jpeg",
        "meta_size": [1, 1],
        "meta_buffer": 0,
        "cache": kept,
    }
    conf = {
        "services": {"demo": None},
        "sources": {"lab": source},
        "grids": grids,
        "caches": {"kept": cache},
        "layers": [{"name": "kept", "title": "kept", "sources": ["kept"]}],
        "globals": {"cache": {"base_dir": str(folder)}},
    }
    levels = {"from": 0, "to": zoom_max}
    seeds = {"seeds": {"all": {"caches": ["kept"], "grids": ["south"], "levels": levels}}}
    for name, content in (("mapproxy.yaml", conf), ("seed.yaml", seeds)):
        (folder / name).write_text(json.dumps(content))  # JSON is YAML


def command_of(name: str, base: str, folder: Path, zoom_max: int, mapproxy: str) -> list[str]:
    """What is run in `folder`, and the files it needs."""
    if name == MAPPROXY_NAME:
        _mapproxy_files(base, folder, zoom_max)
        return [mapproxy, "-c", "8", "-f", "mapproxy.yaml", "-s", "seed.yaml"]
    if name in (MAPCACHE_NAME, MAPCACHE_PATIENT):
        (folder / "mapcache.xml").write_text(MAPCACHE_XML.format(base=base, folder=folder))
        words = f"-c mapcache.xml -t up -x kept -m transfer -g GoogleMapsCompatible -z 0,{zoom_max} -n 8 -q"
        return [MAPCACHE, *words.split(), *(["-P", "100"] if name == MAPCACHE_PATIENT else [])]
    template = f"{base}/{{z}}/{{x}}/{{y}}.jpg"
    flags = ["-z", f"0-{zoom_max}", *TILEHAUL_FLAGS[name][0]]
    return [sys.executable, "-m", "tilehaul", "seed", template, str(folder / "out.mbtiles"), *flags]
