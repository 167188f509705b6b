"""A stream as the command line asks for it: what all commands that open one have in common."""

from __future__ import annotations

import argparse
from contextlib import AbstractAsyncContextManager
from typing import Literal

from client.sdk import Face, connect
from client.sinks.bridge import Bridge
from kfusion.audio import Format


def stream_as_asked(
    a: argparse.Namespace,
    bridge: Bridge,
    *,
    rate: int,
    format: Format = "s16le",  # noqa: A002 - the protocol's word
    mode: Literal["live", "file"] = "live",
) -> AbstractAsyncContextManager[Face]:
    """Opens it, with what ``bridge`` needs. Raises as :func:`client.sdk.connect` does."""
    return connect(
        a.url,
        rate=rate,
        format=format,
        mode=mode,
        hop=a.hop,
        lookahead=a.lookahead,
        identity=a.face,
        emotion=a.emotion,
        outputs=bridge.outputs,
        life=bridge.life(a.life),
        seed=a.seed,
        token=a.token,
        record=a.record,
    )
