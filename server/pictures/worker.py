"""The process that finds faces in pictures: ``python -m server.pictures.worker FINDER``.

A picture that crashes it does not harm the server: queue.py starts the process, gives it one
picture at a time, and replaces it if it ends or takes too long. A message on its standard input or
output is a length (u32, little endian) and so many bytes. The input is a picture; the output is
:class:`Loading` before the networks are loaded, then :class:`Found` or :class:`Refused`.

FINDER is MODULE:FUNCTION; the function returns a :class:`~kfusion.faces.FaceFinder`. It is called
for the first picture that can be read.
"""

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
MAX_MEMORY: Final = 3 << 30  # bytes; the networks and a picture of 16 megapixels take some 1 GiB
NICENESS: Final = 10  # below the server's priority and its inference threads'


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


Message = Loading | Found | Refused
_decoder = msgspec.json.Decoder(Message)
UNABLE: Final = "unable"
"""The code of a :class:`Refused`: this process can read no picture at all."""


def decode_message(data: bytes) -> Message:
    """Raises :class:`msgspec.DecodeError`."""
    return _decoder.decode(data)


def find_face(picture: bytes, finder: Callable[[], FaceFinder]) -> Found | Refused:
    """The face in a picture, or why there is none."""
    try:
        face = find_resting_face(decode_picture(picture), finder())
    except WireError as error:
        return Refused(error.code, str(error))
    except (MissingExtra, FaceFinderError) as error:
        return Refused(UNABLE, str(error), final=False)
    except MemoryError:
        return Refused(NoFace.code, "the picture took too much memory; wanted a smaller one")
    except Exception as error:  # torch's own errors, such as out of memory
        print(f"a picture: {type(error).__name__}: {error}", file=sys.stderr)
        why = f"the picture cannot be looked at ({type(error).__name__})"
        return Refused(NoFace.code, f"{why}; wanted another one", final=False)
    seen = None if face.seen is None else _pairs(face.seen)
    return Found(_pairs(face.points), face.note, seen)


def _pairs(points: Points) -> list[wire.Pair]:
    return [(float(x), float(y)) for x, y in points]


def load_finder(finder: str) -> Callable[[], FaceFinder]:
    """MODULE:FUNCTION -> that function."""
    module, _, name = finder.partition(":")
    function: Callable[[], FaceFinder] = getattr(importlib.import_module(module), name)
    return function


def face_alignment() -> FaceFinder:
    """The default finder, on one thread of the CPU."""
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch is not installed; pip install 'kfusion[face]'") from None
    from kfusion.faces import FaceNetworks

    torch.set_num_threads(1)
    return FaceNetworks("cpu")


def _limit_resources() -> None:
    """Limits of this process, where the system has them."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # elsewhere mapped memory does not count
            resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    with contextlib.suppress(OSError):
        os.nice(NICENESS)


def serve(pictures: BinaryIO, out: BinaryIO, finder: Callable[[], FaceFinder]) -> None:
    """Reads pictures until the end of the input."""
    loaded: list[FaceFinder] = []

    def send(message: Message) -> None:
        data = msgspec.json.encode(message)
        out.write(LENGTH.pack(len(data)) + data)
        out.flush()

    def load_once() -> FaceFinder:
        if not loaded:
            send(Loading())
            loaded.append(finder())
        return loaded[0]

    while len(head := pictures.read(LENGTH.size)) == LENGTH.size:
        (size,) = LENGTH.unpack(head)
        send(find_face(pictures.read(size), load_once))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends this process
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library's prints must not come between the messages
    _limit_resources()
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, out, load_finder(sys.argv[1]))


if __name__ == "__main__":
    main()
