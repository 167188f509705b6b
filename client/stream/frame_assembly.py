"""Assembles frames: binary blocks carry one output of several frames, JSON a whole frame."""

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


class FrameAssembler:
    """Assembles frames of the requested ``outputs``. Raises BadMessage for other messages."""

    def __init__(self, outputs: tuple[wire.Output, ...]) -> None:
        self.outputs = outputs
        self.widths: dict[str, int] = {"points": POINTS_WIDTH}
        self._blocks: dict[wire.Output, wire.FrameBlock] = {}

    def connected(self, ready: wire.Ready) -> None:
        """Notes the width of each output, and forgets the blocks of an earlier connection."""
        for name in self.outputs:
            if name not in ready.outputs:
                raise BadMessage(
                    f"from the server: ready without {name}, which was asked for; "
                    f"it gives {', '.join(ready.outputs) or 'nothing'}"
                )
            self.widths[name] = POINTS_WIDTH if name == "points" else len(ready.outputs[name])
        self._blocks = {}

    def add_block(self, block: wire.FrameBlock) -> list[Frame]:
        """The frames of a block, or none while some of their outputs are still to come."""
        if block.output not in self.outputs:
            return []
        self._check_width(block.output, block.first, block.values.shape[1])
        for other in self._blocks.values():
            if (other.first, len(other.values)) != (block.first, len(block.values)):
                raise BadMessage(
                    f"from the server: {len(block.values)} of {block.output} from frame "
                    f"{block.first}, where {len(other.values)} from {other.first} are unfinished"
                )
        self._blocks[block.output] = block
        if len(self._blocks) < len(self.outputs):
            return []
        values = {name: b.values.astype(np.float32) for name, b in self._blocks.items()}
        self._blocks = {}
        return [
            _frame(n, n / FPS, {name: rows[k] for name, rows in values.items()})
            for k, n in enumerate(range(block.first, block.first + len(block.values)))
        ]

    def from_json(self, message: wire.Frame) -> Frame:
        """The frame of a JSON message."""
        received: dict[str, list[float] | wire.UnsetType] = {
            "points": message.points,
            "arkit52": message.arkit52,
            "vrm": message.vrm,
        }
        values: dict[str, NDArray[np.float32]] = {}
        for name in self.outputs:
            numbers = received[name]
            row = np.array([] if numbers is wire.UNSET else numbers, np.float32)
            self._check_width(name, message.n, len(row))
            values[name] = row
        return _frame(message.n, message.t, values)

    def _check_width(self, name: str, n: int, width: int) -> None:
        if width != self.widths.get(name):
            raise BadMessage(
                f"from the server: frame {n} has {width} numbers of {name}; "
                f"wanted {self.widths.get(name)}"
            )


def _frame(n: int, t: float, values: Mapping[str, NDArray[np.float32]]) -> Frame:
    points: Any = values["points"].reshape(COUNT, 2)
    return Frame(n, t, points, values.get("arkit52"), values.get("vrm"))
