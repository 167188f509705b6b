"""Every error a user can meet, named, with whose fault it is.

A message says what was wrong, where, and what would be right.
"""

import sys
from collections.abc import Callable
from typing import ClassVar, Literal

Fault = Literal["client", "server"]


class KFusionError(Exception):
    """Base of all errors raised on purpose by this project."""

    fault: ClassVar[Fault] = "client"


class CheckpointError(KFusionError):
    """A model file is missing, truncated, foreign, or does not fit its configuration."""


class AudioFileError(KFusionError):
    """A sound file cannot be opened or holds no sound."""


class MissingExtra(KFusionError):
    """A part was used whose optional packages are not installed; names the extra."""


class DataError(KFusionError):
    """Training or evaluation data is absent, empty, or does not have the expected shape."""


class ConnectionFailed(KFusionError):
    """No stream could be opened at an address: nobody answers, or not this protocol."""

    fault = "server"


class ConnectionLost(KFusionError):
    """A stream ended without the server's ``end``."""

    fault = "server"


class MicrophoneError(KFusionError):
    """There is no such input device, or it cannot be opened."""


class SpeakerError(KFusionError):
    """There is no such output device, it cannot be opened, or it stopped playing."""


class BadOptions(KFusionError):
    """Options that a program cannot run with, alone or together."""


class WireError(KFusionError):
    """An error that the server tells a client, by the protocol's code.

    ``fatal`` is the code's usual fatality; the session overrides it for the first message.
    """

    code: ClassVar[str] = "internal"
    fatal: ClassVar[bool] = False
    close_code: ClassVar[int] = 4400


class BadMessage(WireError):
    """Not JSON, not the schema, or not possible in this state."""

    code = "bad_message"


class BadAudio(WireError):
    """A binary message that is not whole sample frames, or samples that are not finite."""

    code = "bad_audio"


class BadIdentity(WireError):
    """Landmarks that are no usable face, or an identity id that is unknown or taken."""

    code = "bad_identity"


class NoFace(WireError):
    """An image in which no face was found."""

    code = "no_face"


class BadEmotion(WireError):
    """An unknown emotion, a weight outside 0..1, or weights that sum to more than 1."""

    code = "bad_emotion"


class TooBig(WireError):
    """An image beyond the size limits."""

    code = "too_big"


class TooFast(WireError):
    """Audio beyond what the server holds for later."""

    code = "too_fast"


class NotStarted(WireError):
    """Something other than ``start`` came first, or nothing came in time."""

    code = "not_started"


class Unauthorized(WireError):
    """A wrong or missing token."""

    code = "unauthorized"
    fatal = True
    close_code = 1008


class Busy(WireError):
    """The server admits no more streams; ``retry_after_s`` says when to come back."""

    code = "busy"
    fatal = True
    close_code = 1013
    fault = "server"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Idle(WireError):
    """Nothing was received for too long."""

    code = "idle"
    fatal = True


class UnknownSession(WireError):
    """A resume token that names no kept session."""

    code = "unknown_session"
    fatal = True


class Internal(WireError):
    """A fault of the server's own."""

    code = "internal"
    fatal = True
    fault = "server"


def run_command(name: str, command: Callable[[], int | None]) -> int:
    """Runs a program's ``command`` and gives its exit status.

    The status is the command's own (None: 0). It is 2 after an expected error, a
    :class:`KFusionError` or OSError, which is printed on stderr as ``name: message``, and 130 after
    Ctrl-C.
    """
    try:
        return command() or 0
    except (KFusionError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
