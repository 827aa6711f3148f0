"""Redirects: few, checked, and no key goes to another host."""

import pytest

from doubles.wire import ScriptedWire, answer
from tilehaul.errors import RefusedError
from tilehaul.net.redirected import RedirectedSender
from tilehaul.ports.wire import Request

KEYED = Request("https://a.test/1/2/3.png", headers=(("Authorization", "secret"),))


async def hops(*locations: str, request: Request = KEYED) -> list[Request]:
    wire = ScriptedWire(steps=[answer(302, location=location) for location in locations])
    await RedirectedSender(wire).send(request)
    return wire.requests


async def test_same_host_keeps_the_headers() -> None:
    asked = await hops("/moved/3.png")
    assert [request.url for request in asked] == [KEYED.url, "https://a.test/moved/3.png"]
    assert asked[1].headers == KEYED.headers


@pytest.mark.parametrize("target", ["https://b.test/3.png", "https://a.test:8443/3.png", "//b.test/3.png"])
async def test_other_host_gets_no_headers(target: str) -> None:
    asked = await hops(target)
    assert asked[1].headers == ()


async def test_headers_do_not_come_back_on_the_way_home() -> None:
    asked = await hops("https://b.test/", "https://a.test/x")
    assert asked[2].headers == ()


async def test_https_to_http_is_refused() -> None:
    with pytest.raises(RefusedError, match="https to http"):
        await hops("http://a.test/3.png")


async def test_fourth_hop_is_refused() -> None:
    await hops("/1", "/2", "/3")
    with pytest.raises(RefusedError, match="more than 3"):
        await hops("/1", "/2", "/3", "/4")


@pytest.mark.parametrize("target", ["", "http://[::1", "https://a.test:port/"])
async def test_nonsense_is_refused(target: str) -> None:
    with pytest.raises(RefusedError) as caught:
        await hops(target)
    assert caught.value.cause == "redirect"
