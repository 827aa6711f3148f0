"""The configuration file: strict keys, errors that help, sizes, variables."""

from pathlib import Path

import pytest
import yaml

from tilehaul.config.load import load_settings, parse_settings, parse_size
from tilehaul.config.schema import schema_text
from tilehaul.errors import ConfigError

ROOT = Path(__file__).parents[2]


def parsed(layer: dict, **environment: str):
    return parse_settings({"layers": {"osm": layer}}, environment).layers["osm"]


def test_example_of_the_design_is_read() -> None:
    text = """
layers:
  bluemarble: {source: "https://tiles.example.com/{z}/{x}/{y}.jpg"}
  photos:
    source: [more.mbtiles, ./local-tiles]
    attribution: "(c) us"
    missing: transparent
cache: {memory: 512MB}
"""

    settings = parse_settings(yaml.safe_load(text), {})
    assert settings.layers["photos"].source == ["more.mbtiles", "./local-tiles"]
    assert settings.layers["photos"].missing == "transparent"
    assert settings.layers["bluemarble"].missing == 404
    assert settings.cache.memory == "512MB"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"layers": {"osm": {"source": "x", "atribution": "y"}}}, ["layers.osm.atribution", '"attribution"']),
        ({"layer": {}}, ['"layer"', '"layers"']),
        ({"cache": {"memry": 1}}, ["cache.memry", '"memory"']),
        ({"layers": {"osm": {"source": 5}}}, ["source", "expected"]),
        ({"layers": {"osm": {}}}, ["source"]),
        ({"layers": {"osm": {"source": ""}}}, ["layers.osm.source"]),
        ({"layers": {"osm": {"source": "x", "min_zoom": 31}}}, ["min_zoom", "30"]),
        ({"layers": {"osm": {"source": "x", "min_zoom": 5, "max_zoom": 4}}}, ["min_zoom 5", "max_zoom 4"]),
        ({"layers": {"osm": {"source": "x", "missing": 500}}}, ["missing", "404, 204, transparent"]),
        ({"layers": {"../x": {"source": "x"}}}, ["../x", "letters"]),
        ({"cache": {"memory": "lots"}}, ["cache.memory", "512MB"]),
        ({"server": {"port": 70000}}, ["port", "65535"]),
        ([1, 2], ["block of keys"]),
        ({"layers": []}, ["layers"]),
        ({"layers": {"osm": {"source": "${NOWHERE}"}}}, ["NOWHERE", "default"]),
    ],
)
def test_mistake_is_named_with_its_key(document, words) -> None:
    """One line that names the key and what to do."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(document, {})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_variables_are_replaced_in_values() -> None:
    layer = parsed({"source": "https://h/{z}/{x}/{y}?k=${KEY}&m=${MODE:-plain}"}, KEY="secret")
    assert layer.source == "https://h/{z}/{x}/{y}?k=secret&m=plain"


def test_template_braces_are_no_variables() -> None:
    assert parsed({"source": "https://h/{z}/{x}/{-y}.png"}).source == "https://h/{z}/{x}/{-y}.png"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MB", 256_000_000),
        ("1 GiB", 2**30),
        ("1.5kb", 1500),
        (1024, 1024),
        ("7", 7),
        ("64mib", 64 * 2**20),
    ],
)
def test_sizes(text, size) -> None:
    assert parse_size(text, "x") == size


@pytest.mark.parametrize("text", ["", "-1", "1TBB", "ten", "1e9", "0x10"])
def test_what_is_no_size(text) -> None:
    with pytest.raises(ConfigError):
        parse_size(text, "cache.memory")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "none.yaml", {})
    bad = tmp_path / "bad.yaml"
    bad.write_text("layers:\n  a: [1,\n")
    with pytest.raises(ConfigError, match="line"):
        load_settings(bad, {})
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(bad, {})
    bad.write_text("!!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError):
        load_settings(bad, {})


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert load_settings(empty, {}).server.port == 8080


def test_published_schema_is_the_code_s_own() -> None:
    """docs/tilehaul.schema.json is what `python -m tilehaul.config.schema` prints."""
    assert (ROOT / "docs" / "tilehaul.schema.json").read_text() == schema_text()
