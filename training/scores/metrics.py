"""How far landmarks are from the truth: LD and LVD (eq. 13-15 of the paper), and the lips.

Sequences are (T, 68, 2) at 30 fps in pixels of the 256 x 256 crop. Distances are means over
frames and points. Velocity is the difference along time. *Aligned* figures compare frames that
were each brought to the clip's identity by a similarity, *raw* ones frames as they are; nothing
is aligned to the truth.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.landmarks import MOUTH, align, inter_ocular, lip_gap

DISTANCES: Final = ("m_ld", "m_lvd", "f_ld", "f_lvd")
CLOSED_PX: Final = 1.5
"""Inner-lip gap under which a mouth counts as closed."""
STILL_PX: Final = 1e-9
"""Standard deviation of the gap under which lips do not move at all."""
MOST_LAG: Final = 10
"""Frames either way within which the lips' lag is looked for."""


def landmark_distance(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
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


@dataclass(frozen=True)
class ClipMetrics:
    """Of one clip. Distances in pixels; ``iod`` is the inter-ocular distance they compare to.

    ``correlation``, ``gain`` (std predicted / std true) and ``lag`` (frames by which the
    prediction is late, best correlation within 10; nan where either does not move) are of the
    inner-lip gap. ``closures_found`` of the ``closures`` of p, b, m are the prediction's too.
    """

    m_ld: float
    m_lvd: float
    f_ld: float
    f_lvd: float
    raw_m_ld: float
    raw_m_lvd: float
    raw_f_ld: float
    raw_f_lvd: float
    correlation: float
    gain: float
    lag: float
    closures_found: int
    closures: int
    iod: float

    @property
    def by_name(self) -> dict[str, float]:
        """All metrics by name; ``iod_*`` and ``raw_iod_*`` in % of the inter-ocular distance."""
        plain: dict[str, float] = asdict(self)
        shares = {
            f"{kind}iod_{k}": 100 * plain[kind + k] / self.iod
            for kind in ("", "raw_")
            for k in DISTANCES
        }
        return {**plain, "abs_lag": abs(self.lag), **shares}


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
    a, b = lip_gap(p), lip_gap(t)
    found, total = closure_recall(a, b, spans)
    moves = min(a.std(), b.std()) > STILL_PX
    return ClipMetrics(
        *distances(p, t),
        *distances(predicted, truth),
        correlation=correlation(a, b),
        gain=float(a.std() / b.std()) if b.std() > STILL_PX else float("nan"),
        lag=best_lag(a, b, MOST_LAG) if moves else float("nan"),
        closures_found=found,
        closures=total,
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
    """
    found = total = 0
    count = min(len(predicted), len(truth))
    for start, stop in spans:
        low, high = max(0, int(start * 30) - 2), min(count, int(np.ceil(stop * 30)) + 3)
        if high <= low:
            continue
        k = low + int(np.argmin(truth[low:high]))
        if truth[k] < CLOSED_PX:
            total += 1
            found += bool((predicted[max(0, k - 2) : min(count, k + 3)] < CLOSED_PX).any())
    return found, total
