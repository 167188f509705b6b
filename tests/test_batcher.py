from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.batcher import Batcher


def test_the_most_urgent_go_first_and_files_last() -> None:
    batcher: Batcher[str] = Batcher(2)
    for name, deadline in [("file", float("inf")), ("b", 2.0), ("a", 1.0), ("c", 2.0)]:
        batcher.add(name, deadline)
    assert batcher.take() == ["a", "b"]
    assert batcher.take() == ["c", "file"]
    assert batcher.take() == []


@given(st.lists(st.floats(0, 10)), st.integers(1, 8))
def test_each_item_is_taken_once_in_deadline_order(deadlines: list[float], size: int) -> None:
    batcher: Batcher[int] = Batcher(size)
    for i, deadline in enumerate(deadlines):
        batcher.add(i, deadline)
    taken: list[int] = []
    while batch := batcher.take():
        assert len(batch) <= size
        taken += batch
    assert taken == sorted(range(len(deadlines)), key=lambda i: (deadlines[i], i))
