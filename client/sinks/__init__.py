"""Where frames go: files, and the protocols of programs that draw faces (docs/bridges.md).

    sink = open_sink("vmc://127.0.0.1:39539")
    async with connect(..., outputs=sink.needs, life=1.0) as face:
        async for frame in face.frames():
            sink.send(frame)
    sink.close()

bridge.py gives frames to several sinks, each frame at its own time.
"""

from typing import Final, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from numpy.typing import ArrayLike

from client.errors import BadSink
from client.sinks.jsonl import JsonlSink
from client.sinks.livelink import LiveLinkSink
from client.sinks.openseeface import OpenSeeFaceSink
from client.sinks.vmc import VmcSink
from client.stream.events import Frame
from kfusion import wire
from kfusion.landmarks import NEUTRAL_IDENTITY, Identity

__all__ = ["WANTED", "Sink", "open_sink"]


class Sink(Protocol):
    """Takes frames in order; ``close`` after the last one. Neither blocks."""

    @property
    def needs(self) -> tuple[wire.Output, ...]:
        """The outputs, besides points, that its frames must carry."""
        ...

    @property
    def live(self) -> bool:
        """Whether each frame is to be sent at its own time, because it is shown at once."""
        ...

    @property
    def trouble(self) -> str:
        """What the user should be told at the end, or an empty string."""
        ...

    def send(self, frame: Frame) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None:
        """Closes it before the stream was complete; a file is removed."""
        ...


WANTED: Final = (
    "jsonl:FILE, osf://HOST:PORT, vmc://HOST:PORT?vrm=0 (or 1), livelink://HOST:PORT?subject=NAME"
)


_SINKS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {  # port, options
    "osf": (11573, ()),
    "vmc": (39539, ("vrm",)),
    "livelink": (11111, ("subject",)),
}


def open_sink(url: str, rest: ArrayLike | None = None) -> Sink:
    """Opens one of :data:`WANTED`; the default port is the protocol's.

    ``rest``: the face (68, 2) at rest of the frames; None is the neutral one. Raises
    :class:`~client.errors.BadSink` for a wrong URL or an unknown host,
    :class:`~client.errors.OutputError` for a file that cannot be written,
    :class:`~kfusion.errors.BadIdentity`, and :class:`~kfusion.errors.MissingExtra`.
    """
    scheme, colon, path = url.partition(":")
    if colon and scheme == "jsonl":
        if not path:
            raise BadSink(f"{url}: no file; wanted jsonl:FILE, or jsonl:- to print")
        return JsonlSink(path)
    identity = NEUTRAL_IDENTITY if rest is None else Identity.from_points(rest)
    if scheme not in _SINKS or not colon:
        raise BadSink(f"{url!r} is no place for frames; wanted {WANTED}")
    default_port, names = _SINKS[scheme]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, default_port if parts.port is None else parts.port
    except ValueError:
        raise BadSink(f"{url}: no address; wanted {scheme}://HOST:PORT") from None
    if not host or not port or parts.path.strip("/") or parts.fragment or parts.username:
        raise BadSink(f"{url}: no address; wanted {scheme}://HOST:PORT")
    options = _options(url, parts, names)
    if scheme == "osf":
        return OpenSeeFaceSink(url, host, port, identity)
    if scheme == "livelink":
        return LiveLinkSink(url, host, port, options.get("subject", "KFusion"), identity)
    version = options.get("vrm", "0")
    if version not in ("0", "1"):
        raise BadSink(f"{url}: vrm={version}; wanted vrm=0 or vrm=1")
    return VmcSink(url, host, port, vrm1=version == "1")


def _options(url: str, parts: SplitResult, names: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in names:
            wanted = f"wanted {names[0]}=..." if names else "wanted none"
            raise BadSink(f"{url}: no option {name!r}; {wanted}")
    return options
