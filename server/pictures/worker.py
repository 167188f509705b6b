"""The process that looks at clients' pictures: ``python -m server.pictures.worker FINDER``.

Whatever a picture does to it, the server goes on: pictures.py starts it, gives it one picture at a
time, and replaces it if it ends or takes too long. Both ways over its standard input and output,
a message is a length (u32, little endian) and so many bytes: a picture in, and out a
:class:`Loading` before the networks are loaded, then one :class:`Found` or :class:`Refused`.

FINDER is MODULE:FUNCTION; the function gives a :class:`~kfusion.faces.FaceFinder`. It is called for
the first picture that can be read.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

import msgspec

from kfusion import wire
from kfusion.errors import MissingExtra, NoFace, WireError
from kfusion.faces import FaceFinder, FaceFinderError
from kfusion.faces.decode import decode_picture
from kfusion.faces.resting_face import find_resting_face
from kfusion.landmarks import Points

LENGTH: Final = struct.Struct("<I")
MEMORY: Final = 3 << 30  # bytes; the networks and a picture of 16 megapixels take some 1 GiB
NICE: Final = 10  # after the server and its lanes


class Loading(msgspec.Struct, tag="loading"):
    """The networks are being loaded, or fetched; this may take longer than a picture."""


class Found(msgspec.Struct, tag="found"):
    points: list[wire.Pair]
    note: str
    seen: list[wire.Pair] | None


class Refused(msgspec.Struct, tag="refused"):
    """``code`` of the wire. ``final``: the same picture would be refused again."""

    code: str
    message: str
    final: bool = True


Said = Loading | Found | Refused
_decoder = msgspec.json.Decoder(Said)
UNABLE: Final = "unable"
"""Of a :class:`Refused`: no picture can be looked at here, by this process."""


def read_said(data: bytes) -> Said:
    """Raises :class:`msgspec.DecodeError`."""
    return _decoder.decode(data)


def look(picture: bytes, finder: Callable[[], FaceFinder]) -> Found | Refused:
    """What is found in a picture, or why nothing is."""
    try:
        face = find_resting_face(decode_picture(picture), finder())
    except WireError as error:
        return Refused(error.code, str(error))
    except (MissingExtra, FaceFinderError) as error:
        return Refused(UNABLE, str(error), final=False)
    except MemoryError:
        return Refused(NoFace.code, "the picture took too much memory; wanted a smaller one")
    except Exception as error:  # torch's own, short of memory among them
        print(f"a picture: {type(error).__name__}: {error}", file=sys.stderr)
        why = f"the picture cannot be looked at ({type(error).__name__})"
        return Refused(NoFace.code, f"{why}; wanted another one", final=False)
    seen = None if face.seen is None else _pairs(face.seen)
    return Found(_pairs(face.points), face.note, seen)


def _pairs(points: Points) -> list[wire.Pair]:
    return [(float(x), float(y)) for x, y in points]


def named(finder: str) -> Callable[[], FaceFinder]:
    """MODULE:FUNCTION -> that function."""
    module, _, name = finder.partition(":")
    found: Callable[[], FaceFinder] = getattr(importlib.import_module(module), name)
    return found


def face_alignment() -> FaceFinder:
    """The usual finder, on one thread of the CPU."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch is not installed; pip install 'kfusion[face]'") from None
    from kfusion.faces import FaceNetworks

    torch.set_num_threads(1)
    return FaceNetworks("cpu")


def _bound() -> None:
    """Limits of this process, where the system has them."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # elsewhere it does not count what is mapped
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with contextlib.suppress(OSError):
        os.nice(NICE)


def serve(pictures: BinaryIO, out: BinaryIO, finder: Callable[[], FaceFinder]) -> None:
    """Until no more pictures come."""
    loaded: list[FaceFinder] = []

    def say(said: Said) -> None:
        data = msgspec.json.encode(said)
        out.write(LENGTH.pack(len(data)) + data)
        out.flush()

    def once() -> FaceFinder:
        if not loaded:
            say(Loading())
            loaded.append(finder())
        return loaded[0]

    while len(head := pictures.read(LENGTH.size)) == LENGTH.size:
        (size,) = LENGTH.unpack(head)
        say(look(pictures.read(size), once))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not come between the messages
    _bound()
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, out, named(sys.argv[1]))


if __name__ == "__main__":
    main()
