"""The server's configuration; the defaults serve the users of one machine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kfusion.engines import ENGINES, EngineName
from kfusion.options import option
from kfusion.wire import Limits

FACE_ALIGNMENT: Final = "server.pictures.worker:face_alignment"


@dataclass(frozen=True)
class Bounds:
    """Time limits and sizes that no option sets."""

    tls_handshake_s: float = 5.0  # nothing counts a connection before
    pending: int = 256  # connections without a stream, beyond ServerConfig.max_sessions ...
    pending_per_address: int = 16  # ... and beyond ServerConfig.max_per_address
    pending_grace_s: float = 1.0  # for the request of a connection
    handshakes_per_s: float = 30.0  # WebSocket handshakes while the event loop lags
    handshake_wait_s: float = 5.0  # the longest delay of one
    max_lag_s: float = 0.1  # median event-loop lag at which no stream is added
    busy_s: float = 1.0  # for a client to resume its session before it is told that no slot is free
    ping_s: float = 20.0
    close_s: float = 10.0  # for a client to read what is left; for a file, some of it
    drain_s: float = 7.0  # for all streams to end once the server stops
    zmq_queue: int = 1000  # messages kept for one ZeroMQ subscriber; newer ones are lost
    zmq_topics: int = 10_000  # subscribed to at once


@dataclass(frozen=True)
class ServerConfig:
    host: str = option("127.0.0.1", "address to bind (%(default)s)")
    port: int = option(8765, "port; 0 takes a free one (%(default)s)", bounds=(0, 65535))
    engine: EngineName = option("auto", "synthetic needs no torch", choices=ENGINES)
    checkpoint: Path | None = option(None, "a model file other than the bundled one")
    device: str = option("auto", "cpu, cuda, cuda:1 ... (%(default)s)")
    threads: int = option(0, "of the engine; 0: as many as cores", bounds=(0, 256))
    max_sessions: int = option(
        1000,
        "streams at once (%(default)s), live ones as far as the machine keeps up",
        bounds=(1, 100_000),
    )
    max_per_address: int = option(
        32, "streams of one other machine (%(default)s)", bounds=(1, 100_000)
    )
    max_batch: int = option(
        64, "windows a step, if it is quick enough (%(default)s)", bounds=(1, 256)
    )
    token: str | None = option(
        None,
        "clients must show it (default: the environment's KFUSION_TOKEN, if any)",
        read=lambda text: text or None,
    )
    insecure: bool = option(False, "let other machines in without a token")
    origins: tuple[str, ...] = option(
        (),
        "pages from here may open streams too, as https://example.org; null for files "
        "(those of this server and of this machine always may)",
        name="--origin", repeated=True, metavar="URL", read=lambda text: text.rstrip("/"),
    )  # fmt: skip
    webrtc: bool = option(True, "streams over WebSocket alone")
    ice_addresses: tuple[str, ...] = option(
        (),
        "WebRTC at this address of this machine (default: that of --host, or all)",
        name="--ice-address", repeated=True, metavar="IP",
    )  # fmt: skip
    ice_servers: tuple[str, ...] = option(
        (),
        "stun:HOST:PORT, or 'turn:HOST:PORT NAME PASSWORD'; none by default",
        name="--ice-server", repeated=True, metavar="URL",
    )  # fmt: skip
    tls_cert: Path | None = option(None, "chain for wss:// and https://", metavar="PEM")
    tls_key: Path | None = option(None, "its private key", metavar="PEM")
    zmq: str | None = option(
        None,
        "publish all sessions' frames on ZeroMQ, as at tcp://127.0.0.1:5560 (docs/zeromq.md)",
        metavar="ADDRESS",
    )
    zmq_key: Path | None = option(
        None, "the server's CURVE key, a .key_secret file", metavar="FILE"
    )
    zmq_clients: Path | None = option(
        None, "let in only those whose .key file lies here", metavar="FOLDER"
    )
    pictures: bool = option(True, "find no faces in clients' pictures")
    identities: Path | None = option(
        None,
        f"keep the faces that the token's holders put, at most {Limits().identities}, in a "
        "database here; without it they are forgotten when the server ends",
        metavar="FOLDER",
    )
    face_finder: str = FACE_ALIGNMENT  # MODULE:FUNCTION (pictures/worker.py)
    limits: Limits = field(default_factory=Limits)
    bounds: Bounds = Bounds()

    @property
    def max_connections(self) -> int:
        """With a stream or without."""
        return self.max_sessions + self.bounds.pending

    @property
    def max_connections_per_address(self) -> int:
        return self.max_per_address + self.bounds.pending_per_address
