"""What tests read from the events of a stream."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from client import Face, Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.runtime import Animator, SyntheticEngine


async def all_events(face: Face) -> list[Any]:
    return [event async for event in face.events()]


def of_type(kind: type[Any], events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def stacked_points(events: list[Any]) -> NDArray[np.float32]:
    """The points of all frames, (T, 68, 2)."""
    return np.stack([frame.points for frame in of_type(Frame, events)])


def frame_numbers(events: list[Any]) -> list[int]:
    """The numbers of the frames that came or were dropped, in the order of the events."""
    numbers: list[int] = []
    for event in events:
        if isinstance(event, Frame):
            numbers.append(event.n)
        elif isinstance(event, wire.Dropped):
            numbers += range(event.first, event.first + event.count)
    return numbers


def without_connections(events: list[Any]) -> list[Any]:
    """The events that a lost connection must not change, each frame as its number."""
    return [
        event.n if isinstance(event, Frame) else event
        for event in events
        if not isinstance(event, (Reconnecting, Resumed, wire.Error))
    ]


def offline(sound: NDArray[np.float32], rate: int = 16_000) -> NDArray[np.float32]:
    """The frames of the synthetic engine for a whole sound, (T, 68, 2)."""
    return Animator(SyntheticEngine()).animate(sound, rate)
