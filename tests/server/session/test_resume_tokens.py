"""Sessions by their tokens, and which are kept without a connection."""

from server.session.resume_tokens import ResumeTokens


def test_a_token_serves_until_the_next_one() -> None:
    tokens: ResumeTokens[str] = ResumeTokens()
    tokens.register("a", "first")
    tokens.register("b", "other")
    tokens.register("a", "first")
    assert (tokens.find("first"), tokens.find("other"), tokens.find("")) == ("a", "b", None)
    tokens.register("a", "second")
    assert (tokens.find("first"), tokens.find("second")) == (None, "a")


def test_one_that_is_removed_is_neither_lost_nor_found() -> None:
    tokens: ResumeTokens[str] = ResumeTokens()
    for name in "abc":
        tokens.register(name, name)
        tokens.lost.add(name)
    tokens.remove("b")
    assert tokens.lost == {"a", "c"} and tokens.find("a") == "a" and tokens.find("b") is None
