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
        self.lost: set[T] = set()  # without a connection

    def register(self, session: T, token: str) -> None:
        """From now on this token, and no earlier one, stands for the session."""
        self.by_key.pop(self.keys.get(session, b""), None)
        self.keys[session] = key = _key(token)
        self.by_key[key] = session

    def find(self, token: str) -> T | None:
        return self.by_key.get(_key(token))

    def remove(self, session: T) -> None:
        """The session has ended, or was never registered."""
        self.lost.discard(session)
        self.by_key.pop(self.keys.pop(session, b""), None)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
