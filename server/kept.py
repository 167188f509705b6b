"""Which session a resume token stands for, and how many are kept without a connection."""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Sessions by their one valid token each, at most ``most`` of them lost."""

    def __init__(self, most: int) -> None:
        self.most = most
        # By the token's hash: how long a look-up takes tells nothing of the tokens there are.
        self.by_key: dict[bytes, T] = {}
        self.keys: dict[T, bytes] = {}
        self.lost: dict[T, None] = {}  # the one lost longest ago first

    def know(self, session: T, token: str) -> None:
        """From now on this token, and no earlier one, stands for the session."""
        key = _key(token)
        before = self.keys.get(session)
        if before != key:
            if before is not None:
                del self.by_key[before]
            self.by_key[key] = session
            self.keys[session] = key

    def find(self, token: str) -> T | None:
        return self.by_key.get(_key(token))

    def lose(self, session: T) -> T | None:
        """Counts a session as lost; gives the one that has to go for it, if any."""
        self.lost[session] = None
        return next(iter(self.lost)) if len(self.lost) > self.most else None

    def found(self, session: T) -> None:
        """The session has a connection again."""
        self.lost.pop(session, None)

    def forget(self, session: T) -> None:
        """The session has ended, or was never known."""
        self.lost.pop(session, None)
        key = self.keys.pop(session, None)
        if key is not None:
            del self.by_key[key]


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
