"""The heap of waiting items against a sorted list."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tilehaul.errors import ConfigError
from tilehaul.policy.retry_heap import WAITING_MAX, RetryHeap


def test_heap_says_when_it_is_full() -> None:
    heap: RetryHeap[int] = RetryHeap()
    assert all(heap.push(number, 1.0) for number in range(WAITING_MAX))
    assert heap.full
    assert not heap.push(-1, 0.0)
    assert (len(heap), heap.next_due_s()) == (WAITING_MAX, 1.0)


def test_items_that_cannot_be_compared_leave_in_the_order_they_came() -> None:
    heap: RetryHeap[object] = RetryHeap(3)
    items = [object(), {}, object()]
    for item in items:
        heap.push(item, 2.0)
    assert heap.pop(1.999) is None
    assert [heap.pop(2.0) for _ in range(4)] == [*items, None]


@pytest.mark.parametrize("size_max", [0, -1])
def test_heap_without_room_is_refused(size_max: int) -> None:
    with pytest.raises(ConfigError):
        RetryHeap(size_max)


def test_heap_of_one_is_allowed() -> None:
    assert RetryHeap(1).size_max == 1


class HeapMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.heap: RetryHeap[int] = RetryHeap(6)
        self.model: list[tuple[float, int]] = []
        self.number = 0
        self.now_s = 0.0

    @rule(due_s=st.integers(0, 10))
    def push(self, due_s: int) -> None:
        taken = self.heap.push(self.number, self.now_s + due_s)
        assert taken == (len(self.model) < 6)
        if taken:
            self.model.append((self.now_s + due_s, self.number))
            self.model.sort()
        self.number += 1

    @rule()
    def pop(self) -> None:
        expected = None
        if self.model and self.model[0][0] <= self.now_s:
            expected = self.model.pop(0)[1]
        assert self.heap.pop(self.now_s) == expected

    @rule(passed_s=st.integers(1, 5))
    def wait(self, passed_s: int) -> None:
        self.now_s += passed_s

    @invariant()
    def same(self) -> None:
        assert len(self.heap) == len(self.model)
        assert self.heap.full == (len(self.model) == 6)
        assert self.heap.next_due_s() == (self.model[0][0] if self.model else None)


HeapMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestHeapMachine = HeapMachine.TestCase
