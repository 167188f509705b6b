"""Which session a resume token stands for, and which are kept without a connection."""

import hashlib
from typing import Generic, TypeVar

T = TypeVar("T")


class ResumeTokens(Generic[T]):
    """Sessions by their one valid token each."""

    def __init__(self) -> None:
        # By the token's hash: how long a look-up takes tells nothing of the tokens there are.
        self.by_key: dict[bytes, T] = {}
        self.keys: dict[T, bytes] = {}
        self.tokens: dict[T, str] = {}
        self.lost: set[T] = set()

    def register(self, session: T, token: str) -> None:
        """From now on this token, and no earlier one, stands for the session."""
        if self.tokens.get(session) == token:
            return
        before, key = self.keys.get(session), _key(token)
        if before is not None:
            del self.by_key[before]
        self.by_key[key] = session
        self.keys[session], self.tokens[session] = key, token

    def find(self, token: str) -> T | None:
        return self.by_key.get(_key(token))

    def disconnected(self, session: T) -> None:
        """The session has no connection."""
        self.lost.add(session)

    def connected(self, session: T) -> None:
        """The session has a connection again."""
        self.lost.discard(session)

    def remove(self, session: T) -> None:
        """The session has ended, or was never registered."""
        self.lost.discard(session)
        self.tokens.pop(session, None)
        key = self.keys.pop(session, None)
        if key is not None:
            del self.by_key[key]


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
