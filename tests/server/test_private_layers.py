"""Keys, and layers that exist only for those who have one (issue 5, item 9)."""

import io
import json

import pytest

from server.over_http import Running
from tilehaul.cli.main import main
from tilehaul.cli.serve import hash_key
from tilehaul.config.load import parse_settings
from tilehaul.errors import ConfigError, PlanError
from tilehaul.net.clock import SystemClock
from tilehaul.policy.keyring import ApiKey, hash_of
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import api_keys, open_layers
from tilehaul.wiring.running_jobs import RunningJobs

KEY, OTHER, ADMIN = "canary-key-0123456789", "canary-other-0123456789", "canary-admin-0123456789"
SECRET = "plans"
TILE = f"/api/tiles/{SECRET}/3/1/2.png"
WAYS = [
    ("", [("X-Api-Key", KEY)]),
    ("", [("Authorization", f"Bearer {KEY}")]),
    ("", [("authorization", f"bearer {KEY}")]),
    (f"?key={KEY}", []),
    (f"?KEY={KEY}&other=1", []),
]
# Everything that tells of layers, and every address of one.
LISTS = [
    "/api/layers",
    "/api/stats",
    "/api/health",
    "/metrics",
    "/wmts/1.0.0/WMTSCapabilities.xml",
    "/wmts?REQUEST=GetCapabilities",
    "/tms/1.0.0",
]
ADDRESSES = [
    "/api/tiles/{}/3/1/2.png",
    "/api/tiles/{}/3/1/2.nothing",
    "/api/tiles/{}/99/1/2.png",
    "/api/tiles/{}",
    "/api/tiles/{}/cache-stats",
    "/api/tiles/{}/batch?tiles=3/1/2.png",
    "/api/tiles/{}/batch",
    "/wmts?REQUEST=GetTile&LAYER={}&TILEMATRIXSET=GoogleMapsCompatible&TILEMATRIX=3&TILEROW=2&TILECOL=1",
    "/wmts/1.0.0/{}/default/GoogleMapsCompatible/3/2/1.png",
    "/tms/1.0.0/{}",
    "/tms/1.0.0/{}/3/1/5.png",
]


@pytest.fixture
def guarded(service):
    """A public layer and two private ones; KEY opens `plans`, OTHER opens `vault`."""
    for name in ("osm", SECRET, "vault"):
        service.layer(name, private=name != "osm").put("3/1/2", b"\x89PNG picture of " + name.encode())
    keys = [
        ApiKey("site", hash_of(KEY.encode()), frozenset({SECRET})),
        ApiKey("bank", hash_of(OTHER.encode()), frozenset({"vault"})),
    ]
    service.build(keys=keys, admin_key=ADMIN, forget=None)
    return service


@pytest.mark.parametrize(("query", "headers"), WAYS)
async def test_a_key_opens_its_layer_however_it_is_sent(guarded, query, headers):
    answer = await guarded.ask(TILE + query, headers=headers)
    assert (answer.status, answer.body) == (200, b"\x89PNG picture of plans")
    assert answer.headers["cache-control"] == "private, max-age=3600"
    missing = await guarded.ask(f"/api/tiles/{SECRET}/3/1/3.png{query}", headers=headers)
    assert (missing.status, missing.headers["cache-control"]) == (404, "private, max-age=300")
    assert (await guarded.ask(f"/api/tiles/vault/3/1/2.png{query}", headers=headers)).status == 404


@pytest.mark.parametrize("address", ADDRESSES)
async def test_without_its_key_a_private_layer_is_as_one_that_does_not_exist(guarded, address):
    """The same answer to the byte, and nothing is asked of its source."""
    for headers in ([], [("X-Api-Key", OTHER)]):
        shut = await guarded.ask(address.format(SECRET), headers=headers)
        none = await guarded.ask(address.format("unknown"), headers=headers)
        assert shut == none
        assert shut.status in (400, 404)
        assert shut.headers["cache-control"] in ("no-store", "no-cache")
    assert guarded.sources[SECRET].asked == []


@pytest.mark.parametrize("address", LISTS)
async def test_lists_name_a_private_layer_to_its_own_callers_only(guarded, address):
    for name in ("osm", SECRET, "vault"):
        await guarded.ask(f"/api/tiles/{name}/3/1/2.png", headers=[("X-Api-Key", ADMIN)])
    named = {}
    for key in ("", KEY, OTHER, ADMIN):
        body = (await guarded.ask(address, headers=[("X-Api-Key", key)])).body.decode()
        named[key] = {name for name in guarded.layers if name in body}
    assert named == {
        "": {"osm"},
        KEY: {"osm", SECRET},
        OTHER: {"osm", "vault"},
        ADMIN: {"osm", SECRET, "vault"},
    }


async def test_no_shared_cache_keeps_a_document_that_names_a_private_layer(guarded):
    for address in (*LISTS[4:], f"/api/tiles/{SECRET}", f"/tms/1.0.0/{SECRET}"):
        told = await guarded.ask(address, headers=[("X-Api-Key", KEY)])
        assert (told.status, told.headers["cache-control"]) == (200, "private, no-cache")


@pytest.mark.parametrize("address", [*LISTS, *(address.format("osm") for address in ADDRESSES), TILE])
@pytest.mark.parametrize("wrong", ["canary-wrong", KEY[:-1], hash_of(KEY.encode()).hex(), "x" * 1000])
async def test_a_wrong_key_is_401_and_not_repeated(guarded, address, wrong):
    answer = await guarded.ask(address, headers=[("X-Api-Key", wrong)])
    assert (answer.status, answer.json()["cause"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert wrong not in f"{answer.headers} {answer.body}"


async def test_other_schemes_and_empty_keys_are_no_keys(guarded):
    """A proxy's own password must not shut the public layers."""
    for headers in ([("Authorization", "Basic Zm9vOmJhcg==")], [("X-Api-Key", "")]):
        assert (await guarded.ask("/api/tiles/osm/3/1/2.png?key=", headers=headers)).status == 200


async def test_without_private_layers_no_key_is_looked_at(service):
    service.layer()
    assert (await service.ask("/api/layers?key=anything", headers=[("X-Api-Key", "any")])).status == 200


async def test_a_private_layer_without_any_key_is_shut(service):
    service.layer(SECRET, private=True)
    assert (await service.ask(TILE)).status == 404
    assert (await service.ask(TILE, headers=[("X-Api-Key", "any")])).status == 401


async def test_early_hits_hold_to_the_keys(guarded, listen):
    """Over the wire, the tile in memory: with the key without routing, else as ever."""
    line = await (await listen(guarded))()
    key = [("X-Api-Key", KEY)]
    assert (await line.ask(TILE, headers=key)).headers["cache-status"].startswith("tilehaul; fwd=miss")
    for _ in range(2):
        hit = await line.ask(TILE, headers=key)
        assert (hit.status, hit.headers["cache-control"]) == (200, "private, max-age=3600")
        assert hit.headers["cache-status"].startswith("tilehaul; hit")
        assert (await line.ask(f"{TILE}?key={KEY}")).body == hit.body
        assert (await line.ask(TILE)).status == 404
        assert (await line.ask(TILE, headers=[("X-Api-Key", OTHER)])).status == 404
        assert (await line.ask(TILE, headers=[("X-Api-Key", "wrong")])).status == 401
        etag = [("If-None-Match", hit.headers["etag"])]
        assert (await line.ask(TILE, headers=etag)).status == 404
        assert (await line.ask(TILE, headers=[*key, *etag])).status == 304
        assert (await line.ask("/api/tiles/osm/3/1/2.png", headers=[("X-Api-Key", "wrong")])).status == 401
        assert (await line.ask("/api/tiles/osm/3/1/2.png")).headers["cache-control"] == "public, max-age=3600"
    assert len(guarded.sources[SECRET].asked) == 1


async def test_jobs_over_a_private_layer_are_for_those_who_may_have_it(tmp_path):
    """The source of a job, the list, its events: another's do not exist."""
    (tmp_path / "tiles").mkdir()
    layer = {"source": str(tmp_path / "tiles"), "private": True}
    keys = {"site": {"sha256": hash_of(KEY.encode()).hex(), "layers": ["*"]}}
    part = {"folder": str(tmp_path / "stores"), "key": "the-key-of-the-jobs"}
    settings = parse_settings({"layers": {SECRET: layer}, "keys": keys, "jobs": part}, {})
    asked = {"source": SECRET, "store": "a.mbtiles", "zooms": "0", "bbox": [5, 44, 17, 48]}
    may = ("Authorization", "Bearer the-key-of-the-jobs")
    async with open_layers(settings) as opened, RunningJobs(settings) as jobs:
        app = make_app(opened.layers, None, clock=SystemClock(), jobs=jobs, keys=api_keys(settings))
        async with Server(app, port=0, drain_s=1) as server:
            running = Running(int(server.url.rpartition(":")[2]), jobs)
            shut = await running.ask("POST", "/api/jobs", asked, [may])
            none = await running.ask("POST", "/api/jobs", {**asked, "source": "unknown"}, [may])
            assert (shut.status, shut.json()["error"]) == (400, none.json()["error"])
            assert (await running.ask("POST", "/api/jobs", asked, [("X-Api-Key", KEY)])).status == 401
            both = [may, ("X-Api-Key", KEY)]
            job = (await running.ask("POST", "/api/jobs", asked, both)).json()["id"]
            assert len((await running.ask("GET", "/api/jobs", None, both)).json()["jobs"]) == 1
            assert (await running.ask("GET", "/api/jobs", None, [may])).json() == {"jobs": []}
            assert (await running.ask("GET", f"/api/jobs/{job}", None, [may])).status == 404
            assert (await running.ask("GET", f"/api/jobs/{job}", None, both)).status == 200
            await jobs.aclose()
            assert SECRET in (await running.ask("GET", "/metrics", None, both)).body.decode()
            assert SECRET not in (await running.ask("GET", "/metrics", None, [may])).body.decode()


HASH = "ab" * 32


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"keys": {"k": {"sha256": "abc", "layers": ["a"]}}}, "keys.k.sha256"),
        ({"keys": {"k": {"sha256": HASH, "layers": ["b"]}}}, 'there is no layer "b"'),
        ({"keys": {"k": {"sha256": HASH, "layers": ["open"]}}}, "set layers.open.private: true"),
        ({}, "layers.a: it is private and none of `keys` opens it"),
    ],
)
def test_configurations_that_open_or_shut_by_mistake_are_refused(document, told):
    layers = {"a": {"source": "x.mbtiles", "private": True}, "open": {"source": "y.mbtiles"}}
    with pytest.raises(ConfigError) as caught:
        parse_settings({"layers": layers, **document}, {})
    assert told in str(caught.value)


def test_a_key_of_the_configuration_opens_what_it_names():
    layers = {name: {"source": "x.mbtiles", "private": name != "open"} for name in ("a", "b", "open")}
    keys = {"one": {"sha256": HASH, "layers": ["a"]}, "all": {"sha256": HASH.upper(), "layers": ["*"]}}
    assert api_keys(parse_settings({"layers": layers, "keys": keys}, {})) == (
        ApiKey("one", bytes.fromhex(HASH), frozenset({"a"})),
        ApiKey("all", bytes.fromhex(HASH), frozenset({"a", "b"})),
    )
    parse_settings({"layers": layers, "server": {"admin_key": "x" * 16}}, {})


@pytest.mark.parametrize("part", [{"server": {"admin_key": "x" * 15}}, {"jobs": {"folder": "f", "key": "x"}}])
def test_a_key_that_can_be_guessed_is_refused(part):
    with pytest.raises(ConfigError, match=r"(server\.admin_key|jobs\.key) has less than 16 characters"):
        parse_settings({"layers": {"a": {"source": "x.mbtiles"}}, **part}, {})


def test_hash_key_reads_one_or_makes_one(capsys, monkeypatch):
    """The key is typed or piped, never an argument; the hash is that of the configuration."""
    monkeypatch.setattr("sys.stdin", io.StringIO(KEY + "\n"))
    assert main(["serve", "--hash-key"]) == 0
    assert capsys.readouterr().out == f"sha256: {hash_of(KEY.encode()).hex()}\n"
    assert hash_key(io.StringIO("")) == 0
    made = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert made["sha256"] == hash_of(made["key"].encode()).hex()
    assert len(made["key"]) >= 43
    for bad in ("short", "blank in the middle of it", "ümlaut-0123456789-0123456789"):
        with pytest.raises(PlanError):
            hash_key(io.StringIO(bad + "\n"))
    assert KEY not in json.dumps(capsys.readouterr().out)
