"""The faces that a client has put, by id."""

from collections.abc import Callable

import numpy as np

from kfusion.errors import BadIdentity
from kfusion.landmarks import NEUTRAL_IDENTITY, Identity


class Identities:
    """At most ``limit`` faces beside ``neutral``; an id keeps the face it was put with.

    ``on_new`` is told every one that was not there.
    """

    NEUTRAL = "neutral"

    def __init__(self, limit: int, on_new: Callable[[str, Identity], None] | None = None) -> None:
        self.limit = limit
        self.on_new = on_new
        self.faces: dict[str, Identity] = {}

    def __getitem__(self, name: str) -> Identity:
        """Raises :class:`~kfusion.errors.BadIdentity` for an id that was never put."""
        if name == self.NEUTRAL:
            return NEUTRAL_IDENTITY
        if name not in self.faces:
            raise BadIdentity(f"identity {name!r} is unknown; wanted neutral or an id put before")
        return self.faces[name]

    def put(self, name: str, face: Identity) -> None:
        """Raises :class:`~kfusion.errors.BadIdentity` for a reserved or taken id, or no room."""
        self.check(name)
        before = self.faces.get(name)
        if before is not None and not np.array_equal(before.points, face.points):
            raise BadIdentity(f"identity id {name!r} is taken by another face; wanted a new id")
        if before is None:
            self.faces[name] = face
            if self.on_new is not None:
                self.on_new(name, face)

    def check(self, name: str) -> None:
        """Raises :class:`~kfusion.errors.BadIdentity` where no face at all could be put."""
        if name == self.NEUTRAL:
            raise BadIdentity("identity id 'neutral' is reserved; wanted another id")
        if name not in self.faces and len(self.faces) >= self.limit:
            raise BadIdentity(f"{self.limit} identities are kept; no room for more")
