"""Records a stream: every message of both directions, into the file of format.py."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import msgspec

from client.errors import OutputError
from client.recording.format import (
    MAGIC,
    Entry,
    Failed,
    Left,
    Lost,
    Opened,
    Received,
    RecordingHeader,
    Sent,
    encode,
)
from client.stream.transport import Closed, Message, Opener, Transport
from client.stream.websocket import redacted_url
from kfusion import __version__
from kfusion.errors import KFusionError

REDACTED: Final = "redacted"


class _Token(msgspec.Struct):
    token: str = ""


class _Tokens(msgspec.Struct):
    """The places of a message that hold one: ``ready.resume``, ``start.resume.token``."""

    resume: str | _Token | None = None


_tokens: Final = msgspec.json.Decoder(_Tokens)


class Recorder:
    """Writes a recording of the connections that :meth:`opener` opens.

    Every entry is written to the file at once. A full disk ends the recording, not the stream;
    :meth:`close` then raises. Raises :class:`~client.errors.OutputError` where no file can be
    written.
    """

    def __init__(
        self,
        path: str | Path,
        url: str = "",
        token: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.now = Path(path), now
        self.connections = 0
        self.bytes = 0
        parts = urlsplit(url)
        self._secrets = {token or "", parts.query, parts.password or ""} - {""}
        self._failure = ""
        self._began = now()
        try:
            self._file: BinaryIO = self.path.open("wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
        header = RecordingHeader(
            date=datetime.now(UTC).isoformat(timespec="milliseconds"),
            url=redacted_url(url) if url else "",
            kfusion=__version__,
            python=platform.python_version(),
            system=platform.platform(),
        )
        self._write(MAGIC + encode(header))

    def _write(self, data: bytes) -> None:
        if self._failure or self._file.closed:
            return
        try:
            self._file.write(data)
            self.bytes += len(data)
        except OSError as error:
            self._failure = error.strerror or str(error)

    def add(self, entry: Entry) -> None:
        self._write(encode(entry))

    @property
    def us(self) -> int:
        """Microseconds since the recording began."""
        return round((self.now() - self._began) * 1e6)

    def redacted(self, message: Message) -> Message:
        """A message without its tokens and those of earlier messages."""
        if isinstance(message, bytes):
            return message
        try:
            resume = _tokens.decode(message).resume
        except msgspec.DecodeError:
            resume = None
        token = resume.token if isinstance(resume, _Token) else resume
        if token:
            self._secrets.add(token)
            fields = msgspec.json.decode(message)
            held = fields["resume"]
            fields["resume"] = REDACTED if resume == token else held | {"token": REDACTED}
            message = msgspec.json.encode(fields).decode()
        return self._without(message, least=8)  # a short one may be a part of any word

    def _without(self, text: str, least: int = 1) -> str:
        for secret in self._secrets:
            if len(secret) >= least:
                text = text.replace(secret, REDACTED)
        return text

    def add_lost(self, link: int, closed: Closed) -> None:
        self.add(Lost(self.us, link, closed.code, self._without(closed.reason)))

    def opener(self, opener: Opener) -> Opener:
        """Opens connections as ``opener`` does, and records them."""

        async def open_recorded() -> Transport:
            try:
                transport = await opener()
            except KFusionError as error:
                self.add(Failed(self.us, self.connections, self._without(str(error))))
                raise
            link = self.connections
            self.add(Opened(self.us, link))
            self.connections += 1
            return RecordedTransport(self, transport, link)

        return open_recorded

    def close(self) -> None:
        """Raises :class:`~client.errors.OutputError` where not all could be written."""
        self._file.close()
        if self._failure:
            raise OutputError(
                f"{self.path}: the recording ends after {self.bytes} bytes ({self._failure}); "
                "wanted room for all of it"
            )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()


class RecordedTransport:
    """A connection whose messages are recorded."""

    def __init__(self, recorder: Recorder, transport: Transport, link: int) -> None:
        self.recorder, self.inner, self.link = recorder, transport, link
        self._closed = False

    async def send(self, message: Message) -> None:
        recorder = self.recorder
        # Before it is sent: a message that is lost on the way is recorded, too.
        recorder.add(Sent(recorder.us, self.link, recorder.redacted(message)))
        try:
            await self.inner.send(message)
        except Closed as closed:
            self._add_lost(closed)
            raise

    async def receive(self) -> Message:
        recorder = self.recorder
        try:
            message = await self.inner.receive()
        except Closed as closed:
            self._add_lost(closed)
            raise
        recorder.add(Received(recorder.us, self.link, recorder.redacted(message)))
        return message

    def _add_lost(self, closed: Closed) -> None:
        if not self._closed:
            self._closed = True
            self.recorder.add_lost(self.link, closed)

    def _add_left(self) -> None:
        if not self._closed:
            self._closed = True
            self.recorder.add(Left(self.recorder.us, self.link))

    async def close(self) -> None:
        self._add_left()
        await self.inner.close()

    def abort(self) -> None:
        self._add_left()
        self.inner.abort()
