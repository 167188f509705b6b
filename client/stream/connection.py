"""The connection of a stream, and another one when it is lost."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from client.errors import RETRY_S
from client.stream.clock import Clock
from client.stream.events import Reconnecting, Resumed
from client.stream.state import ClientStream
from client.stream.transport import Closed, Message, Opener, Transport, discard
from kfusion.errors import Busy, ConnectionFailed, ConnectionLost, KFusionError

FINAL_CODES: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 4400, 4409)
"""Close codes after which the session is over, or has another connection."""
BUSY_CODE: Final = 1013

# A connection counts as lost that brings nothing for so long although messages are due. A file's
# server may be busy with other streams, but it forgets a lost session.
LIVE_TIMEOUT_S: Final = 10.0
FILE_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait before each attempt: doubling from ``first_s`` to ``most_s``.

    Each wait is shortened by a random part of at most ``jitter``, so that the clients of a server
    that was restarted do not all return at once.
    """

    first_s: float = 0.2
    most_s: float = 5.0
    jitter: float = 0.5

    def wait(self, attempt: int, chance: float) -> float:
        """Before attempt number ``attempt``, from 1; ``chance`` in 0..1."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, 60))
        return longest * (1 - self.jitter * chance)


class Connection:
    """Carries the messages of ``stream``. One task sends, another one receives and reconnects."""

    def __init__(
        self,
        stream: ClientStream,
        transport: Transport,
        clock: Clock,
        open_timeout: float,
        opener: Opener,
        backoff: Backoff | None,
    ) -> None:
        self.stream, self.transport, self.clock = stream, transport, clock
        self.open_timeout, self.opener, self.backoff = open_timeout, opener, backoff
        self.timeout_s = LIVE_TIMEOUT_S if stream.live else FILE_TIMEOUT_S
        self.up = True
        self._never = asyncio.Event()

    async def send(self) -> None:
        """Sends all that waits to be sent. Raises :class:`Closed` where no resumption follows."""
        transport = self.transport
        try:
            while self.up and self.transport is transport:
                message = self.stream.resend_queue.next_message()
                if message is None:
                    return
                await transport.send(message)
        except Closed as closed:
            if not self._may_resume(closed):
                raise
            if self.transport is transport:
                self.up = False  # the receiving task reconnects

    async def receive(self) -> Message:
        """The next message. Raises :class:`Closed` where one is due and none comes."""
        if not self.stream.resumable:
            return await self.transport.receive()
        while True:
            expected = self.stream.expects_messages
            try:
                async with asyncio.timeout(self.timeout_s):
                    return await self.transport.receive()
            except TimeoutError:
                if expected and self.stream.expects_messages:
                    raise Closed(1006, f"nothing came for {self.timeout_s:g} s") from None

    async def close(self) -> None:
        self.up = False
        await self.transport.close()

    # Another connection

    def _may_resume(self, closed: Closed) -> bool:
        return self.stream.resumable and closed.code not in FINAL_CODES

    async def reconnect(self, closed: Closed, report: Callable[[Reconnecting], None]) -> Resumed:
        """Resumes the stream on another connection, for as long as the server keeps the session.

        Raises the server's error, or ConnectionLost where no server answers in time.
        """
        lost = self.stream.lost_error(closed.code, closed.reason)
        ready, backoff = self.stream.ready, self.backoff
        if not self._may_resume(closed) or ready is None or backoff is None:
            raise lost
        self.up = False
        await discard(self.transport)
        kept_s, began = ready.limits.resume_s, self.clock.now()
        why: KFusionError = lost
        least_s = 0.0
        for attempt in count(1):
            left_s = began + kept_s - self.clock.now()
            if left_s <= least_s:
                break
            wait_s = min(left_s, max(least_s, backoff.wait(attempt, random.random())))
            report(Reconnecting(attempt, wait_s, str(why)))
            await self.clock.wait(self._never, self.clock.now() + wait_s)
            try:
                timeout_s = min(self.open_timeout, max(1.0, left_s - wait_s))
                silence = await self._resume(timeout_s)
                self.up = True
                return Resumed(attempt, self.clock.now() - began, silence)
            except Busy as busy:
                why, least_s = busy, float(busy.retry_after_s)
            except ConnectionFailed as failed:
                why, least_s = failed, 0.0
        if isinstance(why, Busy):
            raise why
        more = "" if why is lost else f": {why}"
        raise ConnectionLost(f"{lost}, and no other one went on within {kept_s:g} s{more}")

    async def _resume(self, timeout_s: float) -> int:
        """One attempt. Returns the samples that count as silence."""
        transport = None
        silence = None
        try:
            async with asyncio.timeout(timeout_s):
                transport = await self.opener()
                with contextlib.suppress(Closed):  # a refusal may be there already: receive it
                    await transport.send(self.stream.resume_message())
                while silence is None:
                    message = await transport.receive()
                    silence = self.stream.accept_resumption(message, self.clock.now())
                self.transport = transport
                return silence
        except TimeoutError:
            raise ConnectionFailed(f"no answer within {timeout_s:.1f} s") from None
        except Closed as closed:
            if closed.code == BUSY_CODE:
                retry_s = int(closed.reason) if closed.reason.isdecimal() else RETRY_S
                raise Busy("the server is busy", retry_s) from None
            if closed.code in FINAL_CODES:
                raise self.stream.lost_error(closed.code, closed.reason) from None
            raise ConnectionFailed(f"the new connection closed too ({closed})") from None
        finally:
            if silence is None and transport is not None:
                await discard(transport)
