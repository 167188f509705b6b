"""A client's request to find the face in a picture, and its result."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from kfusion import wire
from kfusion.errors import BadMessage, WireError
from kfusion.faces.decode import MAX_BYTES, check_file_size
from kfusion.landmarks import Identity


@dataclass(frozen=True)
class FoundFace:
    """``note``: what was changed to bring the face to rest, or empty; ``seen``: its points as
    they are in the picture, where they were changed.
    """

    identity: Identity
    note: str = ""
    seen: Sequence[wire.Pair] | None = None


SearchResult = FoundFace | WireError


@dataclass(frozen=True)
class Search:
    """A picture, unchecked but for its size, and the id for its face."""

    name: str
    picture: bytes

    @classmethod
    def from_base64(cls, name: str, image: str) -> Search:
        """Raises :class:`~kfusion.errors.TooBig`, and ``BadMessage`` for what is no base64."""
        try:
            picture = binascii.a2b_base64(image, strict_mode=True)
        except ValueError as error:
            raise BadMessage(
                f"identity.image: not base64 ({error}); wanted a JPEG or PNG file of at most "
                f"{MAX_BYTES // 1000} KB in base64"
            ) from None
        check_file_size(picture)
        return cls(name, picture)
