"""The control messages of a client, checked before they are sent as the server checks them."""

import base64
from collections.abc import Mapping
from typing import TypeVar

from numpy.typing import ArrayLike

from kfusion import wire
from kfusion.emotion import vector
from kfusion.errors import BadIdentity, BadMessage
from kfusion.faces.decode import check_file_size
from kfusion.landmarks import Identity

ControlMessage = wire.SetEmotion | wire.SetIdentity | wire.Mark | wire.Reset | wire.EndOfAudio
ClientMessage = TypeVar("ClientMessage", bound=wire.ClientMessage)


def set_emotion(weights: Mapping[str, float], ramp: float) -> wire.SetEmotion:
    """Raises :class:`~kfusion.errors.BadEmotion`, and ``BadMessage`` for the ramp."""
    vector(weights)
    return validated(wire.SetEmotion(dict(weights), ramp))


def set_identity(
    name: str, points: ArrayLike | None = None, image: bytes | None = None
) -> wire.SetIdentity:
    """Raises :class:`~kfusion.errors.BadIdentity` for points that are no usable face, ``TooBig``
    for an image that no server accepts, and ``BadMessage`` for both at once.
    """
    if image is not None:
        if points is not None:
            raise BadMessage("identity: points and an image; wanted one of them")
        check_file_size(image)
        return wire.SetIdentity(name, image=base64.b64encode(image).decode())
    if points is None:
        return validated(wire.SetIdentity(name))
    return validated(wire.SetIdentity(name, Identity.from_points(points).pairs))


def mark(name: str) -> wire.Mark:
    """Raises :class:`~kfusion.errors.BadMessage` for a name that is too long."""
    try:
        return validated(wire.Mark(name))
    except ValueError as error:
        raise BadMessage(f"mark: {error}") from None


def start_identity(identity: ArrayLike | str | None) -> str | wire.IdentityPoints:
    """None, an id or points (68, 2) -> the field ``identity`` of ``start``."""
    if identity is None:
        return "neutral"
    if isinstance(identity, str):
        if not identity:
            raise BadIdentity("identity: an empty id; wanted an id, points (68, 2) or None")
        return identity
    return wire.IdentityPoints(Identity.from_points(identity).pairs)


def validated(message: ClientMessage) -> ClientMessage:
    """A message that the server will accept, by the schema."""
    wire.parse_client(wire.encode(message))
    return message
