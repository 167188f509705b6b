"""At which hop and look-ahead a network is scored, and whether it is given the clips' labels."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kfusion.config import FRAMES
from kfusion.stream import HOPS


@dataclass(frozen=True)
class Mode:
    """``hop`` and ``lookahead`` in frames; ``labelled``: as of :class:`scoring.Model`."""

    hop: int
    lookahead: int
    labelled: bool = False

    def __str__(self) -> str:
        return f"{self.hop}/{self.lookahead}{', label given' if self.labelled else ''}"

    @property
    def of_paper(self) -> bool:
        """Whether windows stand side by side, as in the paper."""
        return (self.hop, self.lookahead) == (FRAMES, 0)


DEFAULT: Final = (Mode(30, 0), Mode(3, 3))
"""The paper's, and that of a live stream."""


def parse_mode(text: str) -> Mode:
    """HOP/LOOKAHEAD as an argparse type."""
    hop, _, lookahead = text.partition("/")
    if hop.isdecimal() and lookahead.isdecimal():
        mode = Mode(int(hop), int(lookahead))
        if mode.hop in HOPS and mode.hop + mode.lookahead <= FRAMES:
            return mode
    raise argparse.ArgumentTypeError(
        f"{text!r}; wanted HOP/LOOKAHEAD in frames, a hop of {HOPS}, a sum up to {FRAMES}"
    )


def with_labels(modes: Sequence[Mode], emotions: Iterable[str | None]) -> list[Mode]:
    """The modes, each once more with the label given where there are emotions but neutral."""
    if all(emotion in (None, "neutral") for emotion in emotions):
        return list(modes)
    return [with_label for mode in modes for with_label in (replace(mode, labelled=True), mode)]


def paper_mode(modes: Sequence[Mode]) -> Mode:
    """The mode that stands for the paper: hop 30, the label given where there is one.

    Without hop 30 among the modes it is the first.
    """
    return max(modes, key=lambda mode: (mode.of_paper, mode.labelled))
