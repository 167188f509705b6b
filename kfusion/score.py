"""Older names of :mod:`kfusion.emotion_timeline`'s classes."""

from kfusion.emotion_timeline import EmotionSpan as Span
from kfusion.emotion_timeline import EmotionTimeline as Score

__all__ = ["Score", "Span"]
