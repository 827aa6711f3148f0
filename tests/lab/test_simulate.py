"""The simulator: that it is deterministic, its models do what they say, ours reaches its aims."""

import json
from xml.etree import ElementTree as ET

import pytest

from tilehaul.cli import exit_codes
from tilehaul.cli.main import main
from tilehaul.errors import PlanError
from tilehaul.lab.peers_limits import AimdLimit, Gradient2Limit, VegasLimit
from tilehaul.lab.picture import Panel, draw
from tilehaul.lab.simulate import HINDSIGHT, LIMITS, OURS, best_fixed, compare, simulate
from tilehaul.lab.simulated_client import Parts
from tilehaul.lab.upstreams import MODELS, Bursts, Cdn, Servers, Shedding, Thrashing, TokenBucket, World
from tilehaul.policy.gate import Gate
from tilehaul.policy.limit import AdaptiveLimit, FixedLimit


def fixed(limit: int):
    return lambda: Parts(FixedLimit(limit))


def test_same_seed_same_run() -> None:
    one, again, other = (simulate("bucket", LIMITS[OURS], seconds=20.0, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.trace != other.trace


def test_one_server_answers_one_by_one() -> None:
    """Three at once: two wait, the mean length is known."""
    world = World(1)
    upstream = Servers(world, ((0.0, 1),))
    done = []
    for _ in range(3):
        upstream.arrive(lambda status, _: done.append((status, world.now_s)))
    world.run(10.0)
    assert [status for status, _ in done] == [200] * 3
    first, second, third = (when for _, when in done)
    assert 0.08 <= first <= 0.12
    assert 0.08 <= third - second <= 0.12
    assert upstream.queue_mean() == pytest.approx((2 * first + (second - first)) / 10.0)


def test_servers_come_and_go() -> None:
    world = World(1)
    upstream = Servers(world, ((0.0, 1), (1.0, 3)))
    done = []
    for _ in range(100):
        upstream.arrive(lambda status, _: done.append(status))
    world.run(1.0)
    alone = len(done)
    world.run(2.0)
    assert 8 <= alone <= 12
    assert 25 <= len(done) - alone <= 35


def test_bucket_pushes_back_and_counts_who_comes_too_early() -> None:
    world = World(1)
    upstream = TokenBucket(world, per_s=10.0, burst=2.0)
    answers = []
    for _ in range(4):
        upstream.arrive(lambda *answer: answers.append(answer))
    world.run(0.9)
    assert sorted(answers, key=str) == [(200, None), (200, None), (429, 1.0), (429, 1.0)]
    # The fourth came in the same instant, yet after the word was given.
    assert upstream.inside == 1
    upstream.arrive(lambda *_: None)
    assert upstream.inside == 2
    world.run(1.1)
    upstream.arrive(lambda *_: None)
    assert upstream.inside == 2


def test_thrashing_gets_slower_and_refuses_above_64() -> None:
    world = World(1)
    upstream = Thrashing(world)
    answers = []
    for _ in range(65):
        upstream.arrive(lambda status, _: answers.append((status, world.now_s)))
    world.run(10.0)
    assert [status for status, _ in answers].count(503) == 1
    assert answers[0][0] == 503
    assert answers[-1][1] > 3.0
    assert upstream.queue_mean() > 0.0


def test_cdn_has_no_limit() -> None:
    world = World(1)
    times_s = []
    upstream = Cdn(world)
    for _ in range(500):
        upstream.arrive(lambda *_: times_s.append(world.now_s))
    world.run(1.0)
    assert sorted(times_s)[250] == pytest.approx(0.05, rel=0.1)
    assert upstream.queue_mean() == 0.0


def test_hindsight_knows_the_knee() -> None:
    """Eight servers of 100 ms give 80 a second, and no limit gives more."""
    limit, per_s = best_fixed("queue", seconds=20.0)
    assert limit in range(8, 17)
    assert per_s == pytest.approx(80.0, rel=0.03)
    assert max(HINDSIGHT) == 128


def check_aims(model: str) -> None:
    """On seed 1, over 300 s: the aims for waste, Retry-After and queue, and 93 % of the best goodput.

    That is less than the aim for goodput, 95 % of the mean over seeds, which `thrash` and `drop` miss on
    fresh seeds by one to two per cent (decision 0004, "What is open"). The best is that of the limits 8, 12
    and 16. `strict`, `bursts` and `shed` miss more; their tests below say what they hold to.
    """
    best = max(simulate(model, fixed(limit), seconds=300.0).goodput_per_s for limit in (8, 12, 16))
    run = simulate(model, LIMITS[OURS], seconds=300.0)
    assert run.goodput_per_s >= 0.93 * best
    assert run.wasted_share <= 0.01
    assert run.inside <= run.in_flight_then
    assert run.queue_mean <= 10.0


def test_01_429_storm_in_virtual_time() -> None:
    check_aims("bucket")


def test_04_slow_growth_in_virtual_time() -> None:
    check_aims("queue")


def test_05_thrash_503_in_virtual_time() -> None:
    check_aims("thrash")


def test_06_capacity_drop_in_virtual_time() -> None:
    """Sixteen servers, four, sixteen: and within 30 s of their return nine tenths of the best."""
    check_aims("drop")
    run = simulate("drop", LIMITS[OURS], seconds=300.0)
    assert sum(run.trace.goods[230:260]) >= 0.9 * 30 * 160.0


def test_aims_are_reached_by_two_who_share() -> None:
    check_aims("shared")


def test_05_thrash_503_at_once_in_virtual_time() -> None:
    """One too many is refused at once, with no word of when; whoever asks again at once wastes a third."""
    run = simulate("shed", LIMITS[OURS], seconds=120.0)
    best = simulate("shed", fixed(8), seconds=10.0)
    assert run.goodput_per_s >= 0.9 * best.goodput_per_s
    assert run.wasted_share <= 0.03
    assert simulate("shed", fixed(9), seconds=10.0).wasted_share > 0.3


def test_failures_of_one_backend_in_four_do_not_bring_the_lane_to_nothing(monkeypatch) -> None:
    """They do not follow load: but for seconds the lane is not narrower for them than it began (at 4)."""
    flaky = ("one backend of four is broken", 1, lambda world, _: Shedding(world, at_once=1000, failing=0.25))
    monkeypatch.setitem(MODELS, "flaky", flaky)
    ours = simulate("flaky", LIMITS[OURS], seconds=120.0)
    assert ours.goodput_per_s >= 0.9 * simulate("flaky", fixed(4), seconds=120.0).goodput_per_s


def test_ours_uses_what_a_cdn_gives() -> None:
    """From 15 s on, when slow start is over."""
    run = simulate("cdn", LIMITS[OURS], seconds=25.0)
    best = simulate("cdn", fixed(128), seconds=3.0)
    assert min(run.trace.goods[15:]) >= 0.95 * best.goodput_per_s


def test_gate_is_what_keeps_requests_out_of_a_retry_after() -> None:
    """The same limit without its gate is rude."""
    polite = simulate("bucket", LIMITS[OURS], seconds=60.0)
    rude = simulate("bucket", lambda: Parts(LIMITS[OURS]().limit), seconds=60.0)
    assert rude.inside > 20 * max(1, polite.inside)


def test_strict_bucket_is_paced() -> None:
    """No burst at all: without the pace a tenth of the rate, and the more the longer it is learned."""
    paced = simulate("strict", LIMITS[OURS], seconds=200.0)
    parts = LIMITS[OURS]
    plain = simulate("strict", lambda: Parts(parts().limit, parts().gate), seconds=200.0)
    assert plain.goodput_per_s < 15.0
    assert sum(paced.trace.goods[150:]) > 50 * 65.0
    assert paced.wasted_share < 0.01
    assert paced.inside <= paced.in_flight_then


def test_bursts_do_not_come_of_load() -> None:
    """The first and the last of a Retry-After, and nothing in between; a hundred at once are answered."""
    world = World(1)
    upstream = Bursts(world)
    heard = []
    for when_s, count in ((2.6, 100), (2.71, 1), (2.8, 1), (3.01, 1), (3.75, 1)):
        for _ in range(count):
            world.at(when_s, upstream.arrive, lambda status, wait_s: heard.append((status, wait_s)))
    world.run(6.0)
    assert heard == [(200, None)] * 100 + [(429, 1.0)] * 2 + [(200, None)] * 2
    assert (upstream.inside, upstream.queue_mean()) == (3, 0.0)


def test_ours_is_not_cut_by_push_back_that_does_not_follow_load() -> None:
    """From 30 s on, as much as the best fixed limit that obeys Retry-After too, but for a twentieth.

    Over 300 s from the first request on it is nine tenths (decision 0004).
    """
    run = simulate("bursts", LIMITS[OURS], seconds=90.0)
    best = simulate("bursts", lambda: Parts(FixedLimit(128), Gate()), seconds=90.0)
    assert sum(run.trace.goods[30:]) >= 0.95 * sum(best.trace.goods[30:])
    assert run.inside <= run.in_flight_then
    # Whoever is under way when a burst begins is refused: no more than that is lost.
    assert run.wasted_share <= 1.1 * best.wasted_share


def test_best_fixed_limit_of_bursts_obeys_retry_after() -> None:
    """Without a gate 128 at once would have nine tenths of the time, with it two thirds."""
    limit, per_s = best_fixed("bursts", seconds=12.0)
    assert limit == 128
    assert per_s < simulate("bursts", fixed(128), seconds=12.0).goodput_per_s


def test_without_the_rule_bursts_bring_the_lane_to_nothing() -> None:
    """What the rule is for, so that nobody takes it out again: the same parts, push-back told as it comes."""
    parts = LIMITS[OURS]
    told = simulate("bursts", lambda: Parts(parts().limit, Gate()), seconds=60.0)
    ours = simulate("bursts", parts, seconds=60.0)
    assert told.goodput_per_s < 0.2 * ours.goodput_per_s


@pytest.mark.parametrize(("model", "seed"), [("bucket", 1), ("strict", 1), ("strict", 2), ("strict", 13)])
def test_limit_of_a_rate_is_never_taken_for_unrelated(
    model: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(AdaptiveLimit, "take_back", lambda _, level: seen.append(level))
    simulate(model, LIMITS[OURS], seconds=300.0, seed=seed)
    assert seen == []


def test_two_clients_share() -> None:
    run = simulate("shared", LIMITS[OURS], seconds=120.0)
    assert len(run.goods_by_client) == 2
    assert min(run.goods_by_client) > 0.3 * max(run.goods_by_client)


def test_comparison_names_the_missed_aims() -> None:
    heard = []
    rows = compare("queue", seconds=12.0, seeds=2, said=heard.append)
    by_name = {row.limit: row for row in rows}
    assert list(by_name) == list(LIMITS)
    assert "queue" in by_name["fixed 64"].missed()
    assert by_name["fixed 8"].missed() == []
    assert len(heard) == 1 + len(LIMITS)
    assert len(rows[0].trace.goods) == 12


@pytest.mark.parametrize(
    "call",
    [
        lambda: simulate("nothing", fixed(1), seconds=1.0),
        lambda: simulate("queue", fixed(1), seconds=0.0),
        lambda: compare("queue", seconds=1.0, seeds=0),
    ],
)
def test_nonsense_is_refused(call) -> None:
    with pytest.raises(PlanError):
        call()


def test_a_run_without_answers_has_no_figures() -> None:
    run = simulate("queue", fixed(1), seconds=0.01)
    assert (run.goodput_per_s, run.p50_s, run.requests) == (0.0, 0.0, 1)


def test_aimd_grows_by_one_and_cuts_a_tenth() -> None:
    limit = AimdLimit(most=21)
    assert not limit.on_success(0.0, 0.1, 9, 0.5)
    assert [limit.on_success(0.0, 0.1, 10, 0.5), limit.on_success(0.0, 0.1, 21, 0.5)] == [True, False]
    assert (limit.on_success(0.0, 5.1, 21, 0.5), limit.limit) == (True, 18)
    assert (limit.on_failure(0.0), limit.limit) == (True, 16)


def test_vegas_follows_its_estimate_of_the_queue() -> None:
    limit = VegasLimit(most=100)
    limit.on_success(0.0, 0.1, 20, 0.5)
    assert (limit.on_success(0.0, 0.1, 20, 0.5), limit.limit) == (True, 27)
    assert not limit.on_success(0.0, 0.1, 3, 0.5)
    assert not limit.on_success(0.0, 0.12, 27, 0.5)
    assert (limit.on_success(0.0, 0.107, 27, 0.5), limit.limit) == (True, 29)
    assert (limit.on_success(0.0, 0.2, 29, 0.5), limit.limit) == (True, 27)
    assert limit.on_push_back(0.0)
    assert limit.on_failure(0.0)
    for _ in range(1000):
        limit.on_success(0.0, 0.3, 25, 0.5)
    assert limit._least_s == 0.3


def test_gradient2_is_blind_to_drops() -> None:
    limit = Gradient2Limit(most=100)
    assert not limit.on_push_back(0.0)
    assert not limit.on_failure(0.0)
    for second in range(1, 16):
        for _ in range(10):
            limit.on_success(second, 0.1, limit.limit, 0.5)
    grown = limit.limit
    assert grown > 20
    for second in range(16, 19):
        for _ in range(10):
            limit.on_success(second, 1.0, limit.limit, 0.5)
    assert limit.limit < grown
    before_s = limit._long_s = 10.0
    for _ in range(10):
        limit.on_success(30.0, 0.1, 1, 0.5)
    assert limit._long_s < 0.95 * before_s


def test_picture_is_an_svg_with_every_curve() -> None:
    curve = [float(number) for number in range(1000)]
    panels = [[Panel("a & b", "s", {"x": curve, "y": [0.0]}), Panel("empty", "", {})]]
    root = ET.fromstring(draw("<title>", panels))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    assert 100 < len(lines[0].attrib["points"].split()) <= 150
    heights = [float(point.split(",")[1]) for line in lines for point in line.attrib["points"].split()]
    assert all(0.0 <= height <= 150.0 for height in heights)


def test_command_prints_a_table_and_draws(tmp_path, capsys) -> None:
    picture = tmp_path / "drop.svg"
    command = [
        "lab",
        "simulate",
        "--model",
        "drop",
        "--seconds",
        "9",
        "--seeds",
        "1",
        "--picture",
        str(picture),
    ]
    assert main(command) == exit_codes.COMPLETE
    text = capsys.readouterr().out
    assert MODELS["drop"][0] in text
    assert all(name in text for name in LIMITS)
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_command_speaks_json(capsys) -> None:
    command = [
        "lab",
        "simulate",
        "--model",
        "queue",
        "--model",
        "queue",
        "--seconds",
        "5",
        "--seeds",
        "1",
        "--json",
    ]
    assert main(command) == exit_codes.COMPLETE
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["limit"] for row in rows] == list(LIMITS)
    assert all(row["type"] == "simulated" and len(row["trace"]["limit"]) == 5 for row in rows)


def test_command_refuses_nonsense(tmp_path, capsys) -> None:
    assert main(["lab", "simulate", "--model", "quue"]) == exit_codes.USAGE
    assert "queue" in capsys.readouterr().err
    wrong = str(tmp_path / "no" / "where.svg")
    command = ["lab", "simulate", "--model", "queue", "--seconds", "1", "--seeds", "1", "--picture", wrong]
    assert main(command) == exit_codes.LOCAL_IO


def test_refusals_without_retry_after_are_failures() -> None:
    """More than the thrashing server takes: 503, and no word of when."""
    run = simulate("thrash", fixed(70), seconds=3.0)
    assert run.wasted_share > 0.5
    assert (run.inside, run.in_flight_then) == (0, 0)
