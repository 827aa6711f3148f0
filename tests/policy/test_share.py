import pytest

from tilehaul.errors import ConfigError
from tilehaul.policy.share import WHOLE, Share


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("whole", [1, 2, 3, 8, 32, 128])
def test_parts_are_the_whole_together_but_for_one_each(whole: int, count: int) -> None:
    parts = [Share(index, count).of_permits(whole) for index in range(count)]
    assert sum(parts) == max(whole, count)
    assert max(parts) - min(parts) <= 1
    assert min(parts) >= 1


def test_a_rate_is_divided_and_the_whole_is_whole() -> None:
    assert [Share(index, 4).of_rate(2.0) for index in range(4)] == [0.5] * 4
    assert (WHOLE.of_permits(5), WHOLE.of_rate(0.2)) == (5, 0.2)


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_a_share_that_is_none_is_refused(index: int, count: int) -> None:
    with pytest.raises(ConfigError, match="a share must be"):
        Share(index, count)
