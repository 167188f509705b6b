"""The address at which ZeroMQ listens, and the CURVE keys of those who may connect."""

import errno
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import zmq
from zmq.auth import load_certificate
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from kfusion.errors import BadOptions
from server.admission.access import is_loopback
from server.config import ServerConfig

WANTED: Final = "wanted an address like tcp://127.0.0.1:5560 or ipc:///run/kfusion"
_WHY: Final[dict[int, str]] = {
    zmq.EADDRINUSE: "is in use; wanted a free port",
    zmq.EADDRNOTAVAIL: "is not of this machine; wanted one of its own addresses",
    errno.ENODEV: "is not of this machine; wanted one of its own addresses",
}


class ZeroMQEndpoint:
    """The context and the keys of one server's socket, and the ``address`` that it binds.

    Raises :class:`~kfusion.errors.BadOptions` for options that cannot be used, or that let other
    machines in without a key.
    """

    def __init__(self, config: ServerConfig) -> None:
        if config.zmq_clients and not config.zmq_key:
            raise BadOptions("--zmq-clients without --zmq-key; wanted both")
        if not config.zmq:
            raise BadOptions("--zmq-key protects nothing; wanted --zmq with it")
        _check(config.zmq, config)
        self.address = config.zmq
        self.secret = _secret(config.zmq_key) if config.zmq_key else None
        self.clients = config.zmq_clients
        if self.clients:
            _check_clients(self.clients)
        self.context: zmq.Context[zmq.Socket[bytes]] | None = None
        self.authenticator: ThreadAuthenticator | None = None

    def open(self) -> zmq.Context[zmq.Socket[bytes]]:
        """The context, with authentication where there are clients' keys."""
        if self.context is None:
            self.context = zmq.Context()
            if self.clients:
                self.authenticator = ThreadAuthenticator(self.context)
                self.authenticator.start()
                self.authenticator.configure_curve(location=self.clients)
        return self.context

    def bind(self, socket: zmq.Socket[bytes], address: str) -> str:
        """Binds the socket; returns its address with the port that it got."""
        if self.secret is not None:
            socket.curve_server = True
            socket.curve_secretkey = self.secret
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            why = _WHY.get(error.errno or 0, f"cannot be used ({error.strerror}); {WANTED}")
            raise BadOptions(f"--zmq {address} {why}") from None
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def close(self) -> None:
        """To be called once all sockets are closed."""
        if self.authenticator is not None:
            self.authenticator.stop()
        if self.context is not None:
            self.context.term()
        self.context = self.authenticator = None


def _check(address: str, config: ServerConfig) -> None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.netloc.rpartition(":")[2]
    except ValueError:
        raise BadOptions(f"--zmq {address} is no address; {WANTED}") from None
    local = parts.scheme == "ipc" and bool(parts.netloc or parts.path)
    if not local:
        number = port == "*" or (port.isascii() and port.isdigit() and int(port) < 1 << 16)
        if parts.scheme != "tcp" or not host or not number or parts.path:
            raise BadOptions(f"--zmq {address} is no address; {WANTED}")
        local = is_loopback(host)
    if config.insecure:
        return
    if not local and not config.zmq_key:
        raise BadOptions(
            f"--zmq {address} is reached from other machines; wanted --zmq-key with it "
            "(or --insecure: anyone may use this server)"
        )
    if config.token and not config.zmq_clients:
        raise BadOptions(
            f"--zmq {address} asks nobody for the token; wanted --zmq-clients with it "
            "(or --insecure: anyone may use this server)"
        )


def _secret(file: Path) -> bytes:
    wanted = "wanted a server's .key_secret as zmq.auth.create_certificates writes it"
    try:
        _, secret = load_certificate(file)
    except (OSError, ValueError) as error:
        raise BadOptions(f"--zmq-key {file}: cannot be used ({error}); {wanted}") from None
    if secret is None or not _is_key(secret):
        raise BadOptions(f"--zmq-key {file}: holds no secret key; {wanted}")
    return secret


def _check_clients(folder: Path) -> None:
    wanted = "wanted a folder with the .key file of each client, as create_certificates writes it"
    files = sorted(folder.glob("*.key")) if folder.is_dir() else []
    if not files:
        raise BadOptions(f"--zmq-clients {folder}: no .key files there; {wanted}")
    for file in files:
        try:
            public, _ = load_certificate(file)
        except (OSError, ValueError) as error:
            raise BadOptions(f"--zmq-clients {file}: cannot be used ({error}); {wanted}") from None
        if not _is_key(public):
            raise BadOptions(f"--zmq-clients {file}: holds no public key; {wanted}")


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == 40 and len(z85.decode(text)) == 32
    except (KeyError, ValueError):
        return False
