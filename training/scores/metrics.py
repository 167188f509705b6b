"""How far landmarks are from the truth, LD and LVD (eq. 13-15 of the paper), and the lips' motion.

Sequences are (T, 68, 2) at 30 fps in pixels of the 256 x 256 crop. Distances are means over
frames and points. Velocity is the difference along time. *Aligned* figures compare frames that
were each brought to the clip's identity by a similarity, *raw* ones frames as they are; nothing
is aligned to the truth. A distance is low wherever the mouth's mean place is right; *centred* and
*shape* compare its motion alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS
from kfusion.landmarks import MOUTH, align, inter_ocular, lip_gap

DISTANCES: Final = ("m_ld", "m_lvd", "f_ld", "f_lvd")
CLOSED_PX: Final = 1.5
"""Inner-lip gap under which a mouth counts as closed."""
NEAR: Final = 2
"""Frames by which a closure may be early or late."""
STILL_PX: Final = 1e-9
"""Standard deviation or mean distance under which nothing moves at all."""
MOST_LAG: Final = 10
"""Frames either way within which the lips' lag is looked for."""


def landmark_distance(predicted: NDArray[Any] | float, truth: NDArray[Any]) -> float:
    """LD, eq. 14: the mean Euclidean distance of (T, K, 2) points."""
    return float(np.linalg.norm(predicted - truth, axis=-1).mean())


def landmark_velocity_distance(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """LVD, eq. 13 and 15: LD of the frame-to-frame differences; nan for a single frame."""
    if len(truth) < 2:
        return float("nan")
    return landmark_distance(np.diff(predicted, axis=0), np.diff(truth, axis=0))


def distances(predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float, float, float]:
    """M-LD, M-LVD, F-LD, F-LVD of (T, 68, 2) points, in their order in :data:`DISTANCES`."""
    p, t = predicted[:, MOUTH], truth[:, MOUTH]
    return (
        landmark_distance(p, t),
        landmark_velocity_distance(p, t),
        landmark_distance(predicted, truth),
        landmark_velocity_distance(predicted, truth),
    )


def mouth_width(points: NDArray[Any]) -> NDArray[np.float64]:
    """Distance between the corners of the mouth, 48 and 54, of (T, 68, 2) points, (T,)."""
    return np.linalg.norm(points[:, 48] - points[:, 54], axis=-1)


def centred(points: NDArray[Any]) -> NDArray[np.float64]:
    """(T, K, 2) points less each point's mean over the frames."""
    return points - points.mean(axis=0)


def shaped(points: NDArray[Any]) -> NDArray[np.float64]:
    """:func:`centred` points (T, K, 2) of which each frame's centroid was taken off before."""
    return centred(points - points.mean(axis=1, keepdims=True))


@dataclass(frozen=True)
class ClipMetrics:
    """Of one clip. Distances in pixels; ``iod`` is the inter-ocular distance they compare to.

    ``copied_m_ld`` is the aligned M-LD of the identity, copied. ``centred_px`` and ``shape_px`` are
    mean distances of the mouth's points from the truth after :func:`centred` and :func:`shaped`;
    ``*_still_px`` those of a mouth that does not move.

    ``correlation``, ``gain`` (std predicted / std true) and ``lag`` (frames by which the
    prediction is late, best correlation within 10; nan where either does not move) are of the
    inner-lip gap, ``width_correlation`` and ``swing`` (std predicted / std true) of the mouth's
    width. ``closures_found`` of the ``closures`` of p, b, m are the prediction's too
    (:func:`closure_recall`); ``closures_right`` of the prediction's ``closures_shown`` are the
    truth's too (:func:`closure_precision`).
    """

    m_ld: float
    m_lvd: float
    f_ld: float
    f_lvd: float
    raw_m_ld: float
    raw_m_lvd: float
    raw_f_ld: float
    raw_f_lvd: float
    copied_m_ld: float
    centred_px: float
    centred_still_px: float
    shape_px: float
    shape_still_px: float
    correlation: float
    gain: float
    lag: float
    width_correlation: float
    swing: float
    closures_found: int
    closures: int
    closures_right: int
    closures_shown: int
    iod: float

    @property
    def by_name(self) -> dict[str, float]:
        """All metrics by name.

        ``iod_*`` and ``raw_iod_*`` are in % of the inter-ocular distance. ``ratio``, ``centred``
        and ``shape`` are of the distances above; nan where the truth does not move.
        """
        plain: dict[str, float] = asdict(self)
        shares = {
            f"{kind}iod_{k}": 100 * plain[kind + k] / self.iod
            for kind in ("", "raw_")
            for k in DISTANCES
        }
        ratios = {
            "ratio": share(self.m_ld, self.copied_m_ld),
            "centred": share(self.centred_px, self.centred_still_px),
            "shape": share(self.shape_px, self.shape_still_px),
        }
        return {**plain, "abs_lag": abs(self.lag), **ratios, **shares}


@dataclass(frozen=True)
class ClipScore:
    """One clip: its labels, its length in frames, and its metrics."""

    name: str
    speaker: str
    emotion: str | None
    level: int | None
    frames: int
    metrics: ClipMetrics


def share(part: float, whole: float) -> float:
    """``part / whole``, nan where the whole is nothing."""
    return float(part / whole) if whole > STILL_PX else float("nan")


def clip_metrics(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    identity: NDArray[Any],
    spans: Sequence[tuple[float, float]] = (),
) -> ClipMetrics:
    """A clip's frames (T, 68, 2) against the truth, over the frames that both have.

    ``identity`` (68, 2) is what both are aligned to; ``spans`` (s) are those of p, b, m.
    """
    count = min(len(predicted), len(truth))
    predicted, truth = predicted[:count], truth[:count]
    p, t = align(predicted, identity), align(truth, identity)
    mouth, true_mouth = p[:, MOUTH], t[:, MOUTH]
    motion, shape = centred(true_mouth), shaped(true_mouth)
    a, b = lip_gap(p), lip_gap(t)
    width, true_width = mouth_width(p), mouth_width(t)
    found, closures = closure_recall(a, b, spans)
    right, shown = closure_precision(a, b)
    moves = min(a.std(), b.std()) > STILL_PX
    return ClipMetrics(
        *distances(p, t),
        *distances(predicted, truth),
        copied_m_ld=landmark_distance(identity[None, MOUTH], true_mouth),
        centred_px=landmark_distance(centred(mouth), motion),
        centred_still_px=landmark_distance(0, motion),
        shape_px=landmark_distance(shaped(mouth), shape),
        shape_still_px=landmark_distance(0, shape),
        correlation=correlation(a, b),
        gain=share(a.std(), b.std()),
        lag=best_lag(a, b, MOST_LAG) if moves else float("nan"),
        width_correlation=correlation(width, true_width),
        swing=share(width.std(), true_width.std()),
        closures_found=found,
        closures=closures,
        closures_right=right,
        closures_shown=shown,
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

    most = max(0, min(most, len(truth) - 3))
    return max(range(-most, most + 1), key=lambda lag: (at(lag), -abs(lag)))


def closure_recall(
    predicted: NDArray[Any], truth: NDArray[Any], spans: Sequence[tuple[float, float]]
) -> tuple[int, int]:
    """(found, total): closures of p, b, m that the prediction shows too.

    ``predicted`` and ``truth`` are inner-lip gaps (T,) in pixels, ``spans`` the seconds of
    those phones. A closure is where the truth is smallest in or within two frames of a span,
    if that is under 1.5 px; it is found when the prediction is under 1.5 px within two frames.
    A mouth that never opens finds all of them: read it beside :func:`closure_precision`.
    """
    found = total = 0
    count = min(len(predicted), len(truth))
    for start, stop in spans:
        low, high = max(0, int(start * FPS) - NEAR), min(count, int(np.ceil(stop * FPS)) + NEAR + 1)
        if high <= low:
            continue
        k = low + int(np.argmin(truth[low:high]))
        if truth[k] < CLOSED_PX:
            total += 1
            near = predicted[max(0, k - NEAR) : min(count, k + NEAR + 1)]
            found += bool((near < CLOSED_PX).any())
    return found, total


def closure_precision(predicted: NDArray[Any], truth: NDArray[Any]) -> tuple[int, int]:
    """(right, total): closures of the prediction that the truth has too.

    ``predicted`` and ``truth`` are inner-lip gaps (T,) in pixels. A closure of the prediction is a
    run of neighbouring frames under 1.5 px, in pauses too, whatever the phone. It is right when
    the truth is under 1.5 px within two frames of each of its frames, so that a mouth that stays
    shut while the true one speaks is one closure, and wrong.
    """
    near = np.convolve(truth < CLOSED_PX, np.ones(2 * NEAR + 1), "full")[NEAR:-NEAR] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], predicted < CLOSED_PX, [0]])))
    runs = list(zip(edges[::2], edges[1::2], strict=True))
    return sum(bool(near[start:stop].all()) for start, stop in runs), len(runs)
