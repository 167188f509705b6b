from hypothesis import given
from hypothesis import strategies as st

from server.admission.token_bucket import TokenBucket


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 0.5)), max_size=40))
def test_no_more_is_spent_than_the_rate_and_what_was_saved_up(
    steps: list[tuple[float, float]],
) -> None:
    now, spent = 0.0, 0.0
    bucket = TokenBucket(0.25, 1.0, now)
    for passed, amount in steps:
        now += passed
        wait = bucket.spend(amount, now)
        spent += amount
        assert wait >= 0
        now += wait
        assert spent <= 1.0 + 0.25 * now + 1e-6
