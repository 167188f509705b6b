"""Errors of a client's own, and a server's errors by their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kfusion import wire
from kfusion.errors import Busy, KFusionError, WireError

RETRY_S: Final = 5  # of a busy server that does not say


class OutputError(KFusionError):
    """A file cannot be written where it was wanted."""


class BadSink(KFusionError):
    """Frames cannot be sent where they were wanted, or it is no such place."""


class PictureError(KFusionError):
    """A picture cannot be read, or its points are no face in it."""


class RecordingError(KFusionError):
    """A file is no recording of a stream, or a damaged one."""


def _classes(base: type[WireError]) -> Iterator[tuple[str, Any]]:
    for cls in base.__subclasses__():
        yield cls.code, cls
        yield from _classes(cls)


_BY_CODE: Final = dict(_classes(WireError))


def named_error(error: wire.Error) -> WireError:
    """The class of kfusion.errors for the code; a code of a later version keeps its name."""
    if error.code == Busy.code:
        retry = RETRY_S if error.retry_after_s is wire.UNSET else error.retry_after_s
        return Busy(error.message, retry)
    if error.code in _BY_CODE:
        return _BY_CODE[error.code](error.message)
    return WireError(f"{error.code}: {error.message}")
