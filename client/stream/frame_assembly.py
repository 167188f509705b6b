"""Frames whole again: each output of a frame comes on its own in binary, in one message in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.stream.events import Frame
from kfusion import wire
from kfusion.config import FPS
from kfusion.errors import BadMessage
from kfusion.landmarks import COUNT

POINTS_WIDTH: Final = 2 * COUNT

Values = NDArray[np.float32]


class Joining:
    """Joins the outputs that were ``asked`` for, points among them. Pure.

    What is no such frame raises :class:`~kfusion.errors.BadMessage`.
    """

    def __init__(self, asked: tuple[wire.Output, ...]) -> None:
        self.asked = asked
        self.widths: dict[str, int] = {"points": POINTS_WIDTH}
        self._parts: dict[wire.Output, wire.FrameBlock] = {}

    def agree(self, ready: wire.Ready) -> None:
        """Notes how wide each output is. What came in part on an earlier connection is forgotten,
        for it comes again.
        """
        for name in self.asked:
            if name not in ready.outputs:
                raise BadMessage(
                    f"from the server: ready without {name}, which was asked for; "
                    f"it gives {', '.join(ready.outputs) or 'nothing'}"
                )
            self.widths[name] = POINTS_WIDTH if name == "points" else len(ready.outputs[name])
        self._parts = {}

    def block(self, block: wire.FrameBlock) -> list[Frame]:
        """The frames of a block, or none while some of their outputs are still to come."""
        if block.output not in self.asked:
            return []
        self._check(block.output, block.first, block.values.shape[1])
        for other in self._parts.values():
            if (other.first, len(other.values)) != (block.first, len(block.values)):
                raise BadMessage(
                    f"from the server: {len(block.values)} of {block.output} from frame "
                    f"{block.first}, where {len(other.values)} from {other.first} are unfinished"
                )
        self._parts[block.output] = block
        if len(self._parts) < len(self.asked):
            return []
        whole = {name: part.values.astype(np.float32) for name, part in self._parts.items()}
        self._parts = {}
        return [
            _frame(n, n / FPS, {name: rows[k] for name, rows in whole.items()})
            for k, n in enumerate(range(block.first, block.first + len(block.values)))
        ]

    def frame(self, said: wire.Frame) -> Frame:
        """The frame of a JSON message."""
        given: dict[str, list[float] | wire.UnsetType] = {
            "points": said.points,
            "arkit52": said.arkit52,
            "vrm": said.vrm,
        }
        values: dict[str, Values] = {}
        for name in self.asked:
            numbers = given[name]
            row = np.array([] if numbers is wire.UNSET else numbers, np.float32)
            self._check(name, said.n, len(row))
            values[name] = row
        return _frame(said.n, said.t, values)

    def _check(self, name: str, n: int, width: int) -> None:
        if width != self.widths.get(name):
            raise BadMessage(
                f"from the server: frame {n} has {width} numbers of {name}; "
                f"wanted {self.widths.get(name)}"
            )


def _frame(n: int, t: float, values: Mapping[str, Values]) -> Frame:
    points: Any = values["points"].reshape(COUNT, 2)
    return Frame(n, t, points, values.get("arkit52"), values.get("vrm"))
