"""How far landmarks are from the truth: LD and LVD (eq. 13-15 of the paper), and the lips.

Sequences are (T, 68, 2) at 30 fps in pixels of the 256 x 256 crop. Distances are means over
frames and points. Velocity is the difference along time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfusion.landmarks import MOUTH, align, inter_ocular, lip_gap

Sequence = NDArray[np.float64]

CLOSED_PX = 1.5
"""Inner-lip gap under which a mouth counts as closed."""


def landmark_distance(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """LD, eq. 14: the mean Euclidean distance of (T, K, 2) points."""
    return float(np.linalg.norm(predicted - truth, axis=-1).mean())


def landmark_velocity_distance(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """LVD, eq. 13 and 15: LD of the frame-to-frame differences."""
    return landmark_distance(np.diff(predicted, axis=0), np.diff(truth, axis=0))


@dataclass(frozen=True)
class Scores:
    """One clip. Distances in pixels; ``iod`` is the inter-ocular distance they compare to.

    ``correlation``, ``gain`` (std predicted / std true) and ``lag`` (frames by which the
    prediction is late, best correlation within 10) are of the inner-lip gap.
    """

    m_ld: float
    m_lvd: float
    f_ld: float
    f_lvd: float
    correlation: float
    gain: float
    lag: int
    iod: float


def score(predicted: NDArray[Any], truth: NDArray[Any], identity: NDArray[Any]) -> Scores:
    """Aligned scores: each frame of both is brought to the identity (68, 2) by a similarity.

    The two are compared over the frames that both have.
    """
    return score_aligned(*aligned(predicted, truth, identity), identity)


def aligned(
    predicted: NDArray[Any], truth: NDArray[Any], identity: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both, over the frames that both have, each brought to the identity."""
    count = min(len(predicted), len(truth))
    return align(predicted[:count], identity), align(truth[:count], identity)


def score_aligned(p: NDArray[Any], t: NDArray[Any], identity: NDArray[Any]) -> Scores:
    """:func:`score` of what :func:`aligned` gave, prediction and truth (T, 68, 2)."""
    a, b = lip_gap(p), lip_gap(t)
    return Scores(
        m_ld=landmark_distance(p[:, MOUTH], t[:, MOUTH]),
        m_lvd=landmark_velocity_distance(p[:, MOUTH], t[:, MOUTH]),
        f_ld=landmark_distance(p, t),
        f_lvd=landmark_velocity_distance(p, t),
        correlation=correlation(a, b),
        gain=float(a.std() / b.std()) if b.std() > 0 else float("nan"),
        lag=best_lag(a, b, 10),
        iod=float(inter_ocular(identity)),
    )


def correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson's, 0 where either does not move."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 1e-9 else 0.0


def best_lag(predicted: NDArray[Any], truth: NDArray[Any], most: int) -> int:
    """Frames by which ``predicted`` is later than ``truth``, at their best correlation."""

    def at(lag: int) -> float:
        if lag >= 0:
            return correlation(predicted[lag:], truth[: len(truth) - lag])
        return correlation(predicted[:lag], truth[-lag:])

    most = min(most, len(truth) - 3)
    return max(range(-most, most + 1), key=lambda lag: (at(lag), -abs(lag)))


def closure_recall(
    predicted: NDArray[Any], truth: NDArray[Any], spans: list[tuple[float, float]]
) -> tuple[int, int]:
    """(found, there): closures of p, b, m that the prediction shows too.

    ``predicted`` and ``truth`` are inner-lip gaps (T,) in pixels, ``spans`` the seconds of
    those phones. A closure is where the truth is smallest in or within two frames of a span,
    if that is under 1.5 px; it is found when the prediction is under 1.5 px within two frames.
    """
    found = there = 0
    count = min(len(predicted), len(truth))
    for start, stop in spans:
        low, high = max(0, int(start * 30) - 2), min(count, int(np.ceil(stop * 30)) + 3)
        if high <= low:
            continue
        k = low + int(np.argmin(truth[low:high]))
        if truth[k] < CLOSED_PX:
            there += 1
            found += bool((predicted[max(0, k - 2) : min(count, k + 3)] < CLOSED_PX).any())
    return found, there
