"""A token bucket: limits how often something may be done. Times are seconds of any one clock."""


class TokenBucket:
    """``rate`` tokens are added each second, up to ``capacity``, with which it starts."""

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self.rate, self.capacity, self.tokens, self.updated = rate, capacity, capacity, now

    def spend(self, amount: float, now: float) -> float:
        """Takes tokens, into debt if there are too few; returns the seconds until it is paid."""
        added = (now - self.updated) * self.rate
        self.tokens = min(self.capacity, self.tokens + added) - amount
        self.updated = now
        return max(0.0, -self.tokens / self.rate)
