"""Faults of connections: how they are written, when they hold, what they come to together."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.errors import ConfigError
from tilehaul.lab.link_faults import ENDS, Fate, LinkFault, LinkPlan, When, parse_link_fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("delay=0.2", LinkFault("delay", 0.2)),
        ("throttle=1000", LinkFault("throttle", 1000.0)),
        ("cut", LinkFault("cut")),
        ("cut=0", LinkFault("cut", 0.0)),
        ("reset = 2000 @ 3", LinkFault("reset", 2000.0, When(first=3, last=3))),
        ("black-hole@2-5", LinkFault("black_hole", None, When(first=2, last=5))),
        ("black_hole@4-", LinkFault("black_hole", None, When(first=4))),
        ("reset=1@10%", LinkFault("reset", 1.0, When(share=0.1))),
        ("refuse", LinkFault("refuse")),
        ("refuse@5s-", LinkFault("refuse", None, When(from_s=5.0))),
        ("refuse@0.5s-1s/2s", LinkFault("refuse", None, When(from_s=0.5, to_s=1.0, every_s=2.0))),
        ("cut@2-,50%,1s-2s", LinkFault("cut", None, When(first=2, from_s=1.0, to_s=2.0, share=0.5))),
    ],
)
def test_fault_is_read_as_it_is_written(text: str, fault: LinkFault) -> None:
    assert parse_link_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "known: delay"),
        ("resett", "did you mean reset?"),
        ("delay", "an amount above 0"),
        ("delay=0", "an amount above 0"),
        ("delay=nan", "a number is wanted"),
        ("throttle=-1", "an amount above 0"),
        ("cut=1.5", "a whole number of bytes"),
        ("cut=-1", "a whole number of bytes"),
        ("refuse=3", "no amount"),
        ("refuse@3", "a time only"),
        ("refuse@10%", "a time only"),
        ("cut@0", "numbered from 1"),
        ("cut@5-2", "numbered from 1"),
        ("cut@101%", "0% to 100%"),
        ("cut@5s-2s", "begins at 0 s or later and ends after that"),
        ("cut@1s-3s/2s", "fit in its period"),
        ("cut@1.1.1s-3s", "a number is wanted"),
        ("cut@soon", "when is 'soon'"),
        ("cut@", None),
    ],
)
def test_nonsense_is_refused_and_quoted(text: str, said: str | None) -> None:
    if said is None:
        assert parse_link_fault(text) == LinkFault("cut")
        return
    with pytest.raises(ConfigError, match=said) as caught:
        parse_link_fault(text)
    assert repr(text) in str(caught.value)


def test_faults_together() -> None:
    """Delays add up; the slowest throttle and the earliest end win, and of two at once the first."""
    plan = LinkPlan.of("delay=1", "delay=0.5", "throttle=900", "throttle=300", "reset=500", "cut=200")
    assert plan.fate(1, 0.0) == Fate(1.5, 300.0, "cut", 200)
    assert LinkPlan.of("reset=200", "cut=200").fate(1, 0.0).end == "reset"
    assert LinkPlan.of("reset=0", "black_hole").fate(1, 0.0) == Fate(end="black_hole")
    assert LinkPlan().fate(1, 0.0) == Fate() == LinkPlan.of("refuse").fate(1, 0.0)


def test_fault_holds_for_its_connections_and_its_time_only() -> None:
    plan = LinkPlan.of("cut@2-3,5s-10s/20s")
    struck = {(number, at_s) for number in range(1, 5) for at_s in range(40) if plan.fate(number, at_s).end}
    assert struck == {(number, at_s) for number in (2, 3) for at_s in (*range(5, 10), *range(25, 30))}


def test_share_is_drawn_by_seed_and_connection() -> None:
    """The same connection has the same luck at every moment; two faults have their own."""
    plan = LinkPlan.of("cut@30%", "delay=1@30%", seed=4)
    fates = [plan.fate(number, 0.0) for number in range(1, 1001)]
    assert fates == [plan.fate(number, 77.0) for number in range(1, 1001)]
    assert 250 < sum(fate.end is not None for fate in fates) < 350
    assert 50 < sum(fate.end is not None and fate.delay_s > 0 for fate in fates) < 130
    other = LinkPlan.of("cut@30%", "delay=1@30%", seed=5)
    assert fates != [other.fate(number, 0.0) for number in range(1, 1001)]


def test_refusal_has_edges() -> None:
    plan = LinkPlan.of("refuse@5s-10s/20s", "refuse@32s-", "cut@1s-2s")
    moments = [0.0]
    while moments[-1] < 40.0 and (edge_s := plan.next_edge_s(moments[-1])) < inf:
        moments.append(edge_s)
    assert moments == [0.0, 5.0, 10.0, 25.0, 30.0, 32.0, 45.0]
    assert [plan.refuses(at_s) for at_s in moments] == [False, True, False, True, False, True, True]
    assert LinkPlan.of("cut@1s-2s").next_edge_s(0.0) == inf
    assert LinkPlan.of("refuse@3s-").next_edge_s(3.0) == inf


spans = st.builds(
    lambda at, length, rest: When(from_s=at, to_s=at + length, every_s=rest and at + length + rest - 1),
    st.integers(0, 9),
    st.integers(1, 9),
    st.integers(0, 5),
)


@given(spans, st.integers(0, 400))
def test_nothing_changes_between_two_edges(when: When, tenths: int) -> None:
    elapsed_s = tenths / 10.0
    edge_s = when.next_edge_s(elapsed_s)
    assert edge_s > elapsed_s
    until_s = min(edge_s, elapsed_s + 60.0)
    middle = [elapsed_s + (until_s - elapsed_s) * step / 97 for step in range(97)]
    assert {when.is_now(at_s) for at_s in middle} == {when.is_now(elapsed_s)}


@given(st.sampled_from(ENDS), st.one_of(st.none(), st.integers(0, 10**9)), st.integers(1, 10**6))
def test_end_is_the_one_that_was_written(end: str, count: int | None, number: int) -> None:
    text = end if count is None else f"{end}={count}"
    assert LinkPlan.of(text).fate(number, 1.0) == Fate(end=end, end_bytes=count)  # type: ignore[arg-type]
