"""Spacing of writes against a list of every turn that was given."""

from hypothesis import given
from hypothesis import strategies as st

from tilehaul.policy.key_spacing import KeySpacing


def test_other_keys_are_not_held_up() -> None:
    spacing = KeySpacing(1.0)
    assert [spacing.reserve(key, 5.0) for key in "abc"] == [0.0, 0.0, 0.0]
    assert spacing.reserve("b", 5.25) == 0.75


def test_a_key_is_forgotten_once_its_second_is_over() -> None:
    spacing = KeySpacing(1.0)
    for number in range(1000):
        spacing.reserve(f"key {number}", number * 0.01)
    assert len(spacing) <= 101


@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 3.0)), max_size=40))
def test_turns_of_a_key_are_never_closer_than_the_spacing(steps: list[tuple[str, float]]) -> None:
    """Whatever the pauses between the calls, and as early as that allows."""
    spacing, now_s, turns = KeySpacing(1.0), 100.0, {"a": [0.0], "b": [0.0]}
    for key, pause_s in steps:
        now_s += pause_s
        turn_s = now_s + spacing.reserve(key, now_s)
        assert abs(turn_s - max(now_s, turns[key][-1] + 1.0)) < 1e-9
        turns[key].append(turn_s)
