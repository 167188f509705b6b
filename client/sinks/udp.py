"""The base of sinks over UDP: packets sent without waiting, and counts of those lost."""

import os
import socket
from abc import ABC, abstractmethod

from client.errors import BadSink
from client.stream.events import Frame
from kfusion import wire


class UdpSink(ABC):
    """Sends one packet a frame. One that cannot be sent is counted in ``lost``.

    Raises :class:`~client.errors.BadSink` for a wrong address.
    """

    needs: tuple[wire.Output, ...] = ()
    live = True

    def __init__(self, url: str, host: str, port: int) -> None:
        self.url = url
        self.sent = 0
        self.lost = 0
        self.reason = ""
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = addresses[0]
            self.socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            raise BadSink(f"{url}: {host} was not found ({_reason(error)})") from None
        self.socket.setblocking(False)
        try:
            self.socket.connect(address)
        except OSError as error:
            self.socket.close()
            raise BadSink(f"{url}: {host} cannot be reached ({_reason(error)})") from None

    @abstractmethod
    def packet(self, frame: Frame) -> bytes:
        """The packet of a frame."""

    def send(self, frame: Frame) -> None:
        packet = self.packet(frame)
        if not self._put(packet):
            # The error is about the packet before, and this one was not sent: send it again.
            self.sent -= 1
            self._put(packet)

    def _put(self, packet: bytes) -> bool:
        """False if the packet before this one was refused, and this one was not sent."""
        refused = False
        try:
            self.socket.send(packet)
            self.sent += 1
            return True
        except ConnectionRefusedError as error:
            refused, self.reason = self.sent > 0, _reason(error)
        except OSError as error:  # a full buffer, no network
            self.reason = _reason(error)
        self.lost += 1
        return not refused

    @property
    def trouble(self) -> str:
        if not self.lost:
            return ""
        return (
            f"{self.url}: {self.lost} of {self.sent + self.lost} packets were lost "
            f"({self.reason}); does a program listen there?"
        )

    def close(self) -> None:
        self.socket.close()

    def discard(self) -> None:
        self.close()


def _reason(error: Exception) -> str:
    """The reason in words. The number is no errno on Windows or for a name that is not found."""
    if not isinstance(error, OSError):
        return str(error)
    if error.strerror or error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)
