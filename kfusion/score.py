"""See :mod:`kfusion.emotion_timeline`."""

from kfusion.emotion_timeline import Score, Span

__all__ = ["Score", "Span"]
