from hypothesis import given
from hypothesis import strategies as st

from server.engine.batcher import FILE, MAX_LATE_S, Batcher


def test_idle_lanes_share_what_waits() -> None:
    batcher: Batcher[int] = Batcher(8)
    for k in range(9):
        batcher.add(k, 1.0)
    assert [batcher.take(0.0, idle)[0] for idle in (2, 1)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


def test_under_overload_the_oldest_are_given_up_and_files_wait() -> None:
    batcher: Batcher[str] = Batcher(8)
    for name, deadline in [("late", 0.0), ("file", FILE), ("later", 0.2), ("now", 1.0)]:
        batcher.add(name, deadline)
    assert batcher.take(0.3 + MAX_LATE_S) == (["now"], ["late", "later"])
    assert batcher.take(1e9) == (["file"], [])


@given(st.lists(st.one_of(st.floats(0, 10), st.just(FILE))), st.integers(1, 8), st.integers(1, 3))
def test_each_item_is_taken_once_in_deadline_order(
    deadlines: list[float], size: int, idle: int
) -> None:
    batcher: Batcher[int] = Batcher(size)
    for i, deadline in enumerate(deadlines):
        batcher.add(i, deadline)
    taken: list[int] = []
    while len(batcher):
        batch, late = batcher.take(5.0, idle)
        assert 0 < len(batch) <= size or late
        assert all(deadlines[i] < 5.0 - MAX_LATE_S for i in late)
        assert len({deadlines[i] < FILE for i in batch}) <= 1
        taken += late + batch
    assert taken == sorted(range(len(deadlines)), key=lambda i: (deadlines[i], i))
