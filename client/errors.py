"""Errors of the client, and the errors of a server by their codes."""

from collections.abc import Iterator
from typing import Any, Final

from kfusion import wire
from kfusion.errors import Busy, KFusionError, WireError

RETRY_S: Final = 5  # where a busy server gives no time


class OutputError(KFusionError):
    """A file cannot be written."""


class BadSink(KFusionError):
    """The address of a sink is invalid, or frames cannot be sent to it."""


class PictureError(KFusionError):
    """A picture cannot be read, or the points are no face in it."""


class RecordingError(KFusionError):
    """A file is no recording of a stream, or is damaged."""


def _classes(base: type[WireError]) -> Iterator[tuple[str, Any]]:
    for cls in base.__subclasses__():
        yield cls.code, cls
        yield from _classes(cls)


_BY_CODE: Final = dict(_classes(WireError))


def named_error(error: wire.Error) -> WireError:
    """The error of kfusion.errors for the code; an unknown code stands in the message."""
    if error.code == Busy.code:
        retry = RETRY_S if error.retry_after_s is wire.UNSET else error.retry_after_s
        return Busy(error.message, retry)
    if error.code in _BY_CODE:
        return _BY_CODE[error.code](error.message)
    return WireError(f"{error.code}: {error.message}")
