"""Lost connections: when to try again, how often, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from client.errors import RETRY_S
from client.stream.clock import Clock
from client.stream.events import Reconnecting, Resumed
from client.stream.transports import Closed, Opener, Transport, discard
from kfusion.errors import Busy, ConnectionFailed, ConnectionLost, KFusionError

if TYPE_CHECKING:
    from client.stream.state import ClientStream

FINAL: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 4400, 4409)
"""Close codes after which the session is over, or another's: nobody need come back."""
BUSY: Final = 1013


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait before each attempt: doubling from ``first_s`` to ``most_s``.

    Up to ``jitter`` of each wait is taken off by chance, so that a crowd that a server has lost
    does not come back at once.
    """

    first_s: float = 0.2
    most_s: float = 5.0
    jitter: float = 0.5

    def wait(self, attempt: int, chance: float) -> float:
        """Before the ``attempt``-th, from 1; ``chance`` in 0..1."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, 60))
        return longest * (1 - self.jitter * chance)


class Reconnection:
    """Opens connections until one goes on with a stream, for as long as the server keeps it."""

    def __init__(self, opener: Opener, backoff: Backoff, clock: Clock, open_timeout: float) -> None:
        self.opener, self.backoff, self.clock = opener, backoff, clock
        self.open_timeout = open_timeout
        self._never = asyncio.Event()

    async def go_on(
        self,
        stream: ClientStream,
        lost: KFusionError,
        tell: Callable[[Reconnecting], None],
    ) -> tuple[Transport, Resumed]:
        """Raises the server's error where it refuses, ``lost`` where nobody answers in time."""
        assert stream.ready is not None
        kept_s = stream.ready.limits.resume_s
        began = self.clock.now()
        why, at_least = lost, 0.0
        for attempt in count(1):
            left = began + kept_s - self.clock.now()
            if left <= at_least:
                break
            wait = min(left, max(at_least, self.backoff.wait(attempt, random.random())))
            tell(Reconnecting(attempt, wait, str(why)))
            await self.clock.wait(self._never, self.clock.now() + wait)
            try:
                timeout_s = min(self.open_timeout, max(1.0, left - wait))
                transport, silence = await self._attempt(stream, timeout_s)
                return transport, Resumed(attempt, self.clock.now() - began, silence)
            except Busy as busy:
                why, at_least = busy, float(busy.retry_after_s)
            except ConnectionFailed as failed:
                why, at_least = failed, 0.0
        if isinstance(why, Busy):
            raise why
        more = "" if why is lost else f": {why}"
        raise ConnectionLost(f"{lost}, and no other one went on within {kept_s:g} s{more}")

    async def _attempt(self, stream: ClientStream, timeout_s: float) -> tuple[Transport, int]:
        transport = None
        silence = None
        try:
            async with asyncio.timeout(timeout_s):
                transport = await self.opener()
                with contextlib.suppress(Closed):  # a refusal may be there already: read it
                    await transport.send(stream.resume())
                while silence is None:
                    silence = stream.resumed(await transport.receive(), self.clock.now())
                return transport, silence
        except TimeoutError:
            raise ConnectionFailed(f"no answer within {timeout_s:.1f} s") from None
        except Closed as closed:
            if closed.code == BUSY:
                retry_s = int(closed.reason) if closed.reason.isdecimal() else RETRY_S
                raise Busy("the server is busy", retry_s) from None
            if closed.code in FINAL:
                raise stream.lost(closed.code, closed.reason) from None
            raise ConnectionFailed(f"the new connection closed too ({closed})") from None
        finally:
            if silence is None and transport is not None:
                await discard(transport)
