"""When a job stops itself."""

from tilehaul.policy.fuse import FailureLimit, Fuse


def outcomes(fuse: Fuse, pattern: str) -> list[str]:
    """Feed '.' (passed), 'x' (dead), 'd' (denied); return the reasons given."""
    reasons = []
    for mark in pattern:
        if mark == ".":
            fuse.passed()
        elif (reason := fuse.failed(denied=mark == "d", cause="http_500")) is not None:
            reasons.append(reason)
    return reasons


def test_share_is_not_judged_before_a_thousand_outcomes() -> None:
    assert outcomes(Fuse(FailureLimit(share=0.01)), "x" * 30 + "." * 968 + "x") == []


def test_share_above_the_limit_blows() -> None:
    [reason] = outcomes(Fuse(FailureLimit(share=0.01)), "." * 995 + "x" * 5 + "." * 5 + "x" * 6)
    assert reason == "1.1% of 1011 tiles failed, more than --max-failures 1%"


def test_share_is_judged_at_the_thousandth_outcome() -> None:
    [reason] = outcomes(Fuse(FailureLimit(share=0.005)), "." * 990 + "x" * 10)
    assert reason == "1.0% of 1000 tiles failed, more than --max-failures 0.5%"


def test_share_at_the_limit_holds() -> None:
    """1 % exactly is not more than 1 %."""
    assert outcomes(Fuse(FailureLimit(share=0.01)), "." * 990 + "x" * 10) == []


def test_count_blows_one_above() -> None:
    assert outcomes(Fuse(FailureLimit(count=2, share=None)), "xx") == []
    assert len(outcomes(Fuse(FailureLimit(count=2, share=None)), "xxx")) == 1


def test_fifty_dead_in_a_row_blow_and_a_success_starts_anew() -> None:
    free = FailureLimit(count=10_000, share=None)
    assert outcomes(Fuse(free), "x" * 49 + "." + "x" * 49) == []
    assert "http_500" in outcomes(Fuse(free), "x" * 50)[0]


def test_twenty_denials_in_a_row_name_the_key() -> None:
    free = FailureLimit(count=10_000, share=None)
    assert outcomes(Fuse(free), "d" * 19 + "x" + "d" * 19) == []
    assert "401/403" in outcomes(Fuse(free), "d" * 20)[0]


def test_success_between_denials_starts_anew() -> None:
    free = FailureLimit(count=10_000, share=None)
    assert outcomes(Fuse(free), "d" * 19 + "." + "d" * 19) == []
