"""What a server runs with; the defaults serve one machine's own users."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kfusion.runtime import EngineName
from kfusion.wire import Limits

USUAL: Final = "server.pictures.worker:face_alignment"


@dataclass(frozen=True)
class ServerConfig:
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    insecure: bool = False  # listen for other machines without a token
    origins: tuple[str, ...] = ()  # of pages served elsewhere that may open streams
    tls_cert: Path | None = None
    tls_key: Path | None = None
    zmq: str | None = None  # where frames are published
    zmq_key: Path | None = None  # the server's secret certificate
    zmq_clients: Path | None = None  # public certificates of those who are let in
    engine: EngineName = "auto"
    checkpoint: Path | None = None
    device: str = "auto"
    threads: int = 0  # of the engine; 0 leaves it to the engine
    webrtc: bool = True  # where aiortc is installed
    ice_addresses: tuple[str, ...] = ()  # of this machine, for WebRTC; empty: the host's own
    ice_servers: tuple[str, ...] = ()  # STUN and TURN
    max_sessions: int = 1000  # of all kinds; live ones are also bounded by what was measured
    max_per_address: int = 32  # of one other machine
    max_batch: int = 64  # at most; what was measured decides
    pictures: bool = True  # find faces in them, where that is installed
    face_finder: str = USUAL  # what looks at them (looker.py)
    identities: Path | None = None  # a folder where those of a token's holders are kept
    limits: Limits = field(default_factory=Limits)
