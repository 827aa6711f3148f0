"""Silence: counted by looks, so that a program that slept has not waited."""

from tilehaul.jobs.silence import Silence


def test_silence_is_what_passed_since_the_last_sign_of_life() -> None:
    silence = Silence(100.0, between_s=1.0)
    assert silence.look(101.0) == 0.0  # the beginning counts as a sign
    assert silence.look(102.0) == 1.0
    assert silence.look(103.5) == 2.5
    silence.heard(104.0)
    assert silence.look(104.5) == 0.0
    assert silence.look(105.5) == 1.0


def test_sign_of_life_in_the_moment_of_a_look_counts_for_the_next() -> None:
    silence = Silence(100.0, between_s=1.0)
    silence.look(101.0)
    silence.heard(101.0)
    assert silence.look(102.0) == 0.0


def test_time_asleep_counts_as_two_looks_at_most() -> None:
    silence = Silence(100.0, between_s=1.0)
    silence.look(101.0)
    assert silence.look(5101.0) == 2.0
    assert silence.look(5102.0) == 3.0
