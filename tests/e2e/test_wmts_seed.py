"""A WMTS behind a scripted wire: REST, KVP, limits, out of range."""

from collections.abc import Callable

import pytest

from doubles.clock import VirtualClock
from doubles.wire import ScriptedWire, answer
from doubles.wmts import SCALE_0, document, matrix
from tilehaul.codec.wmts_request import parse_wmts_location
from tilehaul.config.sending import Sending
from tilehaul.errors import PlanError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Response
from tilehaul.sources.wmts import WmtsSource
from tilehaul.wiring.wmts import open_wmts

OUT_OF_RANGE = (
    b'<ExceptionReport><Exception exceptionCode="TileOutOfRange" locator="TILECOL"/></ExceptionReport>'
)


async def opened(
    query: str, then: Callable[[Request], Response] | None = None
) -> tuple[WmtsSource, ScriptedWire]:
    wire = ScriptedWire([answer(200, document(), content_type="text/xml")])
    if then is not None:
        wire.then = then
    place = parse_wmts_location(f"wmts+http://h/kvp?{query}")
    sender = VerifiedSender(wire, VirtualClock(), Tally())
    return await open_wmts(place, sender, Sending(headers=(("x-key", "k"),))), wire


@pytest.mark.parametrize(
    ("query", "url"),
    [
        ("layer=alps", "http://h/alps/day/2020/goog/01/1/0.png"),
        ("layer=alps&style=night&time=2019&k=v", "http://h/alps/night/2019/goog/01/1/0.png?k=v"),
        (
            "layer=alps&format=image/jpeg&map=m",
            (
                "http://h/kvp?map=m&SERVICE=WMTS&REQUEST=GetTile&VERSION=1.0.0&LAYER=alps&STYLE=day"
                "&TILEMATRIXSET=goog&FORMAT=image/jpeg&Time=2020&TILEMATRIX=01&TILEROW=0&TILECOL=1"
            ),
        ),
    ],
    ids=["rest", "rest with all", "kvp where no template is"],
)
async def test_addresses(query: str, url: str) -> None:
    source, wire = await opened(query)
    assert isinstance(await source.get(TileId(1, 1, 0)), Tile)
    assert await source.get(TileId(1, 0, 0)) == NoTile(TileId(1, 0, 0), "outside")
    assert await source.get(TileId(5, 0, 0)) == NoTile(TileId(5, 0, 0), "out_of_range")
    assert [request.url for request in wire.requests[1:]] == [url]
    assert wire.requests[1].headers == (("x-key", "k"),)
    assert (source.info.zoom_min, source.info.zoom_max) == (0, 1)


async def test_out_of_range_is_absent_and_other_400_is_not() -> None:
    source, _ = await opened("layer=alps", lambda _: answer(400, OUT_OF_RANGE))
    assert await source.get(TileId(0, 0, 0)) == NoTile(TileId(0, 0, 0), "out_of_range")
    source, _ = await opened("layer=alps", lambda _: answer(400, b"<ExceptionReport/>"))
    with pytest.raises(RefusedError):
        await source.get(TileId(0, 0, 0))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("layer=alp", "did you mean alps"),
        ("layer=alps&style=dya", "did you mean day"),
        ("layer=alps&tilematrixset=gogg", "did you mean goog"),
        ("layer=alps&format=image/gif", "no format"),
        ("layer=alps&format=image/jpeg&tilehaul.encoding=rest", "offers no rest"),
    ],
)
async def test_what_the_service_does_not_have(query: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        await opened(query)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("/t/", "does not begin with http"),
        ("file:///t/", "does not begin with http"),
        ("gopher://h/", "does not begin with http"),
        ("http://[bad/", "is no address"),
        ("http://h:port/", "is no address"),
        ("http://{TileMatrix}.h/", "names no host"),
        ("http:///t/", "names no host"),
        ("http://h/a b/", "has white space"),
    ],
)
@pytest.mark.parametrize("encoding", ["rest", "kvp"])
async def test_addresses_that_are_none_end_it_at_the_start(template: str, says: str, encoding: str) -> None:
    holes = f"{template}{{TileMatrix}}/{{TileRow}}/{{TileCol}}"
    told = document().replace(b"http://h/kvp?", (template + "?").encode())
    head, _, tail = told.partition(b'template="')
    told = head + f'template="{holes}"'.encode() + tail.partition(b'"')[2]
    wire = ScriptedWire([answer(200, told, content_type="text/xml")])
    place = parse_wmts_location(f"wmts+http://h/kvp?layer=alps&tilehaul.encoding={encoding}")
    with pytest.raises(PlanError, match=says):
        await open_wmts(place, VerifiedSender(wire, VirtualClock(), Tally()), Sending())
    assert len(wire.requests) == 1


async def test_a_matrix_is_one_word_of_the_address() -> None:
    told = document(matrices=matrix("a b/{TileRow}?", SCALE_0))
    wire = ScriptedWire([answer(200, told, content_type="text/xml")])
    source = await open_wmts(parse_wmts_location("wmts+http://h/kvp?layer=alps"), wire, Sending())
    assert (
        source.request(TileId(0, 0, 0)).url == "http://h/alps/day/2020/goog/a%20b%2F%7BTileRow%7D%3F/0/0.png"
    )


async def test_identity_knows_style_and_dimension() -> None:
    queries = [
        "layer=alps",
        "layer=alps&style=night",
        "layer=alps&time=2019",
        "layer=alps&tilehaul.encoding=kvp",
    ]
    identities = {(await opened(query))[0].info.identity for query in queries}
    assert len(identities) == 4
    one, other = [(await opened(f"layer=alps&token={key}secret"))[0].info for key in "ab"]
    assert one.identity == other.identity
    assert "secret" not in one.name


async def test_names_that_a_service_wrote_over_several_lines_are_told_in_one() -> None:
    """Met by fuzzing: a reference system, and a format, with a line's end in it."""
    wire = ScriptedWire(
        [answer(200, document(crs="urn:ogc:def:crs:EPSG::9\n00913"), content_type="text/xml")]
    )
    place = parse_wmts_location("wmts+http://h/kvp?layer=alps")
    with pytest.raises(PlanError, match=r"no matrix set in Web Mercator; it has goog \(EPSG:9 00913\)"):
        await open_wmts(place, VerifiedSender(wire, VirtualClock(), Tally()), Sending())
    body = (
        document()
        .replace(b"<Format>image/png", b"<Format>image/p\nng")
        .replace(b'format="image/png"', b'format="&#10;"')
    )
    wire = ScriptedWire([answer(200, body, content_type="text/xml")])
    place = parse_wmts_location("wmts+http://h/kvp?layer=alps&tilehaul.encoding=rest")
    with pytest.raises(PlanError) as caught:
        await open_wmts(place, VerifiedSender(wire, VirtualClock(), Tally()), Sending())
    assert str(caught.value).isprintable()
