"""Sessions by their tokens, and which are kept without a connection."""

from __future__ import annotations

from server.session.resume_tokens import Kept


def test_a_token_serves_until_the_next_one() -> None:
    kept: Kept[str] = Kept()
    kept.know("a", "first")
    kept.know("b", "other")
    kept.know("a", "first")
    assert (kept.find("first"), kept.find("other"), kept.find("")) == ("a", "b", None)
    kept.know("a", "second")
    assert (kept.find("first"), kept.find("second")) == (None, "a")


def test_lost_ones_are_those_without_a_connection() -> None:
    kept: Kept[str] = Kept()
    for name in "abc":
        kept.know(name, name)
        kept.lose(name)
    kept.found("a")
    kept.forget("b")
    assert kept.lost == {"c"} and kept.find("a") == "a" and kept.find("b") is None


def test_what_was_never_known_can_be_forgotten() -> None:
    kept: Kept[str] = Kept()
    kept.forget("a")
    assert kept.find("a") is None
