"""Emotion over time: which emotion from which second on, for a stream or the offline call.

Spans hold from the first frame at or after their begin to that of their end; between two spans the
face is neutral. A stream sends a change between two samples, so that any chunking is the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Final

from kfusion.config import FPS
from kfusion.emotion import EmotionCurve, vector
from kfusion.errors import BadEmotion

RAMP_S: Final = 0.3
"""The server's own ramp from one emotion to the next (protocol.md, `emotion`)."""
_FORMAT: Final = "wanted BEGIN-END:NAME in seconds, e.g. 0-2:happy,2-5:happy=0.4+sad=0.6,7.5-:angry"
_SECONDS: Final = r"(\d+(?:\.\d*)?|\.\d+)"
_SPAN: Final = re.compile(rf"\s*{_SECONDS}\s*-\s*{_SECONDS}?\s*:(.*)", re.DOTALL)


@dataclass(frozen=True)
class EmotionSpan:
    """Weights {name: 0..1} from second ``begin`` to ``end``, None for the end of the sound."""

    begin: Fraction | float
    end: Fraction | float | None
    weights: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> EmotionSpan:
        """``2-5.5:happy=0.4+sad=0.6``. Raises :class:`~kfusion.errors.BadEmotion`."""
        match = _SPAN.fullmatch(text)
        if match is None:
            raise BadEmotion(f"emotion {text!r}: not a span of time; {_FORMAT}")
        begin, end, mixture = match.groups()
        weights: dict[str, float] = {}
        for part in mixture.split("+"):
            name, equals, number = (word.strip() for word in part.partition("="))
            if name in weights:
                raise BadEmotion(f"emotion {text!r}: {name} twice; wanted each name once")
            try:
                weights[name] = float(number) if equals else 1.0
            except ValueError:
                raise BadEmotion(
                    f"emotion {text!r}: the weight of {name} is {number!r}; wanted a number from "
                    "0 to 1"
                ) from None
        return cls(Fraction(begin), None if end is None else Fraction(end), weights)

    @property
    def frames(self) -> tuple[int, int | None]:
        """The first frame, and the first one after."""
        return ceil(self.begin * FPS), None if self.end is None else ceil(self.end * FPS)

    def __str__(self) -> str:
        end = "" if self.end is None else f"{float(self.end):g}"
        names = "+".join(f"{name}={weight:g}" for name, weight in self.weights.items())
        return f"{float(self.begin):g}-{end}:{names}"


@dataclass(frozen=True)
class EmotionTimeline:
    """``spans`` in order of time without overlap; each is reached over ``ramp`` seconds.

    ``initial``: the weights at frame 0, where no ramp leads to. ``changes``: (n, weights) at
    each later frame n where another emotion begins. Raises :class:`~kfusion.errors.BadEmotion`.
    """

    spans: Sequence[EmotionSpan]
    ramp: float = RAMP_S
    initial: Mapping[str, float] = field(init=False)
    changes: tuple[tuple[int, Mapping[str, float]], ...] = field(init=False)

    def __post_init__(self) -> None:
        for k, span in enumerate(self.spans):
            _check(span, self.spans[k - 1] if k else None)
        if not 0 <= self.ramp <= 3600:
            raise BadEmotion(f"ramp is {self.ramp} s; wanted 0 to 3600")
        targets: dict[int, Mapping[str, float]] = {0: {}}
        for span in self.spans:
            first, after = span.frames
            if first != after:
                targets[first] = span.weights
                if after is not None:
                    targets[after] = {}
        object.__setattr__(self, "initial", targets.pop(0))
        object.__setattr__(self, "changes", tuple(targets.items()))

    @classmethod
    def parse(cls, text: str, ramp: float = RAMP_S) -> EmotionTimeline:
        """Spans with commas between them. Raises :class:`~kfusion.errors.BadEmotion`."""
        return cls(tuple(EmotionSpan.parse(part.strip()) for part in text.split(",")), ramp)

    def curve(self) -> EmotionCurve:
        """The vector at every frame, as in a stream that sends the changes in their places."""
        curve = EmotionCurve(vector(self.initial))
        for n, weights in self.changes:
            curve.start(n, vector(weights), self.ramp * FPS)
        return curve


def _check(span: EmotionSpan, before: EmotionSpan | None) -> None:
    try:
        vector(span.weights)
    except BadEmotion as error:
        raise BadEmotion(f"{span}: {error}") from None
    if not 0 <= span.begin < float("inf"):
        raise BadEmotion(f"emotion '{span}' begins at {float(span.begin):g} s; wanted 0 or later")
    if span.end is not None and not span.begin < span.end < float("inf"):
        raise BadEmotion(
            f"emotion '{span}' ends at {float(span.end):g} s; wanted a time after its begin"
        )
    if before is not None and (before.end is None or span.begin < before.end):
        raise BadEmotion(
            f"emotion '{span}' begins before '{before}' ends; wanted spans in order of time, none "
            "over another"
        )
