"""The XYZ source: one request a tile, none where there can be no tile."""

import asyncio
from dataclasses import replace

import pytest

from tilehaul.codec.url_template import parse_template
from tilehaul.errors import BrokenError, ConfigError, ThrottledError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import TileSource
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Response
from tilehaul.sources.xyz import XyzSource, describe_template

TILE = TileId(5, 17, 11)


class ScriptedSender:
    """Answers every request with `answer`, or raises it; remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []

    async def send(self, request):
        self.requests.append(request)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def answered(status=200, body=b"png bytes", media_type="image/png"):
    return Response("https://h/5/17/11.png", status, {}, body, media_type=media_type)


def source_over(sender, template="https://h/{z}/{x}/{y}.png", **options) -> XyzSource:
    source: TileSource = XyzSource.opener(template, **options)(sender)
    assert isinstance(source, XyzSource)
    return source


async def test_tile_is_asked_for_once_with_everything_given():
    """Address, headers, lane class and limit reach the sender; the tile has the verified type."""
    sender = ScriptedSender(answered(media_type="image/webp"))
    source = source_over(sender, headers=(("x-a", "b"),), lane_class="cdn", body_bytes_max=77)
    assert await source.get(TILE) == Tile(TILE, b"png bytes", "image/webp", "origin")
    assert sender.requests == [
        Request("https://h/5/17/11.png", headers=(("x-a", "b"),), lane_class="cdn", body_bytes_max=77)
    ]
    assert sender.requests[0].expect == "tile"


async def test_type_falls_back_to_the_templates():
    """A sender that does not verify leaves the type empty: the ending is the next best."""
    assert await source_over(ScriptedSender(answered(media_type=""))).get(TILE) == Tile(
        TILE, b"png bytes", "image/png", "origin"
    )


@pytest.mark.parametrize("status", [204, 404, 410])
async def test_absence_is_an_answer(status):
    """What the origin does not have is NoTile with its status, not an error."""
    source = source_over(ScriptedSender(answered(status, b"", "")))
    assert await source.get(TILE) == NoTile(TILE, f"http_{status}", "origin")


@pytest.mark.parametrize(
    "tile",
    [
        TileId(3, 0, 0),
        TileId(9, 0, 0),
        TileId(5, 32, 0),
        TileId(5, 0, 32),
        TileId(5, -1, 0),
        TileId(5, 0, -1),
    ],
)
async def test_tile_beyond_the_source_needs_no_request(tile):
    """Other zooms, columns and rows than there are."""
    sender = ScriptedSender(answered())
    info = replace(describe_template(parse_template("https://h/{z}/{x}/{y}")), zoom_min=4, zoom_max=8)
    assert await source_over(sender, info=info).get(tile) == NoTile(tile, "out_of_range", "origin")
    assert sender.requests == []
    assert isinstance(await source_over(sender, info=info).get(TileId(8, 255, 255)), Tile)


@pytest.mark.parametrize("status", [304, 202])
async def test_answer_to_another_question_is_a_failure(status):
    """Neither range nor condition was sent: nothing of it may be kept."""
    with pytest.raises(BrokenError) as caught:
        await source_over(ScriptedSender(answered(status)), "https://h/{z}/{x}/{y}.png?key=canary7f3a").get(
            TILE
        )
    assert caught.value.cause == f"http_{status}"
    assert "canary7f3a" not in str(caught.value) + caught.value.url


@pytest.mark.parametrize("error", [ThrottledError("busy", retry_after_s=3.0), asyncio.CancelledError()])
async def test_errors_pass_as_they_are(error):
    """The sender has said everything; cancellation too."""
    with pytest.raises(type(error)) as caught:
        await source_over(ScriptedSender(error)).get(TILE)
    assert caught.value is error


def test_opener_tells_hosts_and_info_before_there_is_a_sender():
    """What is needed to open the network: one address a host; name and identity without the key."""
    opener = XyzSource.opener(
        "https://{s}.h/{z}/{x}/{y}{r}.jpg?key=canary7f3a", subdomains=["p", "q"], ratio=2
    )
    assert [url.split("/")[2] for url in opener.typed_urls] == ["p.h", "q.h"]
    assert opener.typed_urls[0].endswith("@2x.jpg?key=canary7f3a")
    assert "canary7f3a" not in opener.info.name
    assert opener.info.media_type == "image/jpeg"
    assert opener.info.identity == opener.template.identity
    assert XyzSource.opener("https://h/{z}/{x}/{y}", tms=True).template.url(TILE) == "https://h/5/17/20"
    with pytest.raises(ConfigError, match="lacks"):
        XyzSource.opener("https://h/{z}/{x}")
