"""What a client says besides sound, checked as the server would check it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TypeVar

from numpy.typing import ArrayLike

from kfusion import wire
from kfusion.emotion import vector
from kfusion.errors import BadIdentity, BadMessage
from kfusion.faces.decode import check_file_size
from kfusion.landmarks import Identity

Words = wire.SetEmotion | wire.SetIdentity | wire.Mark | wire.Reset | wire.EndOfAudio
Checked = TypeVar("Checked", bound=wire.ClientMessage)


def emotion(weights: Mapping[str, float], ramp: float) -> wire.SetEmotion:
    """Raises :class:`~kfusion.errors.BadEmotion`, and ``BadMessage`` for the ramp."""
    vector(weights)
    return checked(wire.SetEmotion(dict(weights), ramp))


def identity(
    name: str, points: ArrayLike | None = None, image: bytes | None = None
) -> wire.SetIdentity:
    """Raises :class:`~kfusion.errors.BadIdentity` for points that are no usable face, ``TooBig``
    for an image that no server takes, and ``BadMessage`` for both at once.
    """
    if image is not None:
        if points is not None:
            raise BadMessage("identity: points and an image; wanted one of them")
        check_file_size(image)
        return wire.SetIdentity(name, image=base64.b64encode(image).decode())
    if points is None:
        return checked(wire.SetIdentity(name))
    return checked(wire.SetIdentity(name, pairs(points)))


def mark(name: str) -> wire.Mark:
    """Raises :class:`~kfusion.errors.BadMessage` for a name that is too long."""
    try:
        return checked(wire.Mark(name))
    except ValueError as error:
        raise BadMessage(f"mark: {error}") from None


def pairs(points: ArrayLike) -> list[wire.Pair]:
    """(68, 2) as the wire wants them. Raises :class:`~kfusion.errors.BadIdentity`."""
    return Identity.from_points(points).pairs


def identity_of(given: ArrayLike | str | None) -> str | wire.IdentityPoints:
    """None, an id or points (68, 2) -> what ``start`` says."""
    if given is None:
        return "neutral"
    if isinstance(given, str):
        if not given:
            raise BadIdentity("identity: an empty id; wanted an id, points (68, 2) or None")
        return given
    return wire.IdentityPoints(pairs(given))


def checked(message: Checked) -> Checked:
    """A message that the server will accept, by the schema."""
    wire.parse_client(wire.encode(message))
    return message
