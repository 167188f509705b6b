"""What a process asks of its system: files enough, and children that Ctrl-C does not reach."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Generator[None, None, None]:
    """What this thread starts by multiprocessing's "spawn" in the block is never interrupted.

    Ctrl-C goes to every process of a terminal's group. One that has set its own handler can
    leave it to its parent, but while it still starts and imports it would end with a traceback;
    so it inherits a mask in which SIGINT waits. This process is interrupted at the block's end,
    or at once where another thread of it takes the signal. Windows has no masks: nothing there.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it takes SIGINT out of the mask where it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def allow_files(count: int) -> None:
    """As many open sockets as the system lets this process have, if it needs them."""
    if sys.platform == "win32":  # has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 100  # and what else is open
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
