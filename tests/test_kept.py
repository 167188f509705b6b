"""Sessions by their tokens, and how many are kept without a connection."""

from __future__ import annotations

from server.kept import Kept


def test_a_token_serves_until_the_next_one() -> None:
    kept: Kept[str] = Kept(9)
    kept.know("a", "first")
    kept.know("b", "other")
    kept.know("a", "first")
    assert (kept.find("first"), kept.find("other"), kept.find("")) == ("a", "b", None)
    kept.know("a", "second")
    assert (kept.find("first"), kept.find("second")) == (None, "a")


def test_the_one_lost_longest_ago_goes_first() -> None:
    kept: Kept[str] = Kept(2)
    for name in "abcd":
        kept.know(name, name)
    assert (kept.lose("a"), kept.lose("b")) == (None, None)
    kept.found("a")
    assert kept.lose("a") is None
    assert kept.lose("c") == "b"
    kept.forget("b")
    assert kept.find("b") is None
    assert kept.lose("d") == "a"


def test_what_was_never_known_can_be_forgotten() -> None:
    kept: Kept[str] = Kept(1)
    kept.forget("a")
    assert kept.find("a") is None
