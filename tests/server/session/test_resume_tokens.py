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


def test_lost_ones_are_those_without_a_connection() -> None:
    tokens: ResumeTokens[str] = ResumeTokens()
    for name in "abc":
        tokens.register(name, name)
        tokens.disconnected(name)
    tokens.connected("a")
    tokens.remove("b")
    assert tokens.lost == {"c"} and tokens.find("a") == "a" and tokens.find("b") is None
