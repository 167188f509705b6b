"""Sessions by their tokens, and which are kept without a connection."""

from __future__ import annotations

from server.session.resume_tokens import ResumeTokens


def test_a_token_serves_until_the_next_one() -> None:
    kept: ResumeTokens[str] = ResumeTokens()
    kept.register("a", "first")
    kept.register("b", "other")
    kept.register("a", "first")
    assert (kept.find("first"), kept.find("other"), kept.find("")) == ("a", "b", None)
    kept.register("a", "second")
    assert (kept.find("first"), kept.find("second")) == (None, "a")


def test_lost_ones_are_those_without_a_connection() -> None:
    kept: ResumeTokens[str] = ResumeTokens()
    for name in "abc":
        kept.register(name, name)
        kept.disconnected(name)
    kept.connected("a")
    kept.remove("b")
    assert kept.lost == {"c"} and kept.find("a") == "a" and kept.find("b") is None


def test_what_was_never_known_can_be_forgotten() -> None:
    kept: ResumeTokens[str] = ResumeTokens()
    kept.remove("a")
    assert kept.find("a") is None
