"""From clips' metrics to tables: means with bootstrap intervals, as Markdown, CSV and JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan
from typing import Any, Final

import numpy as np

from training.scores.legacy import AUTHORS_BATCH
from training.scores.metrics import DISTANCES
from training.scores.scoring import ClipScore, Result
from training.scores.tables import json_value, markdown_table

RESAMPLES: Final = 2000
LIPS: Final = ("correlation", "gain", "abs_lag", "closure")
ALIGNED: Final = (*DISTANCES, *LIPS)
TITLES: Final = {
    "m_ld": "M-LD",
    "m_lvd": "M-LVD",
    "f_ld": "F-LD",
    "f_lvd": "F-LVD",
    "correlation": "lip correlation",
    "gain": "lip gain",
    "abs_lag": "lip lag, frames",
    "closure": "closure recall",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over clips and the ends of its 95 % bootstrap interval; nan where undefined."""

    mean: float
    low: float = nan
    high: float = nan

    def text(self, *, interval: bool = True) -> str:
        """As a table's cell; empty for nan."""
        if not isfinite(self.mean):
            return ""
        if not interval or not isfinite(self.low):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class SummaryRow:
    """The estimates of a predictor over all its clips, or over those of one group."""

    name: str
    clips: int
    estimates: Mapping[str, Estimate]
    group: str = ""

    @property
    def json(self) -> dict[str, Any]:
        """{metric: {mean, low, high}}, null where undefined; a group's with its clips counted."""
        count = {"clips": self.clips} if self.group else {}
        return count | {
            name: {k: json_value(v) for k, v in asdict(estimate).items()}
            for name, estimate in self.estimates.items()
        }


def bootstrap_estimates(clips: Sequence[ClipScore], seed: int = 0) -> dict[str, Estimate]:
    """Every metric's mean over clips, with the percentile bootstrap (Efron 1979) over clips.

    Each of 2000 resamples draws as many clips as there are, with replacement; the interval is
    that of their means between 2.5 and 97.5 %. A clip in which a metric is undefined is left out
    of its mean; ``closure`` is the closures found over all closures, both resampled. Rows with the
    same number of clips draw the same resamples. A single clip has no interval.
    """
    names = list(clips[0].metrics.by_name)
    values = np.array([list(c.metrics.by_name.values()) for c in clips], np.float64)
    above, below = np.nan_to_num(values), np.isfinite(values).astype(np.float64)
    names.append("closure")
    found, closures = (values[:, names.index(k)] for k in ("closures_found", "closures"))
    above, below = np.column_stack([above, found]), np.column_stack([below, closures])
    count = len(clips)
    rng = np.random.default_rng(seed)
    drawn: list[Any] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = above.sum(axis=0) / below.sum(axis=0)
        for _ in range(RESAMPLES // 100):
            times = rng.multinomial(count, np.full(count, 1 / count), size=100)
            drawn.append((times @ above) / (times @ below))
    resampled = np.concatenate(drawn)
    out: dict[str, Estimate] = {}
    for k, name in enumerate(names):
        column = resampled[np.isfinite(resampled[:, k]), k]
        if count > 1 and len(column):
            low, high = np.percentile(column, [2.5, 97.5])
            out[name] = Estimate(float(mean[k]), float(low), float(high))
        else:
            out[name] = Estimate(float(mean[k]))
    return out


def summary_rows(results: Mapping[str, Result]) -> list[SummaryRow]:
    """A row a predictor. The ``legacy_*`` metrics are of batches and have no interval."""
    return [
        SummaryRow(
            name,
            len(result.clips),
            bootstrap_estimates(result.clips)
            | {k: Estimate(v) for k, v in result.legacy.row.items()},
        )
        for name, result in results.items()
    ]


def grouped_rows(
    results: Mapping[str, Result], key: Callable[[ClipScore], str]
) -> list[SummaryRow]:
    """A row a group and predictor, groups sorted."""
    rows: list[SummaryRow] = []
    for group in sorted({key(c) for r in results.values() for c in r.clips}):
        for name, result in results.items():
            clips = [c for c in result.clips if key(c) == group]
            rows.append(SummaryRow(name, len(clips), bootstrap_estimates(clips), group))
    return rows


GROUPS: Final[dict[str, Callable[[ClipScore], str]]] = {
    "emotion": lambda clip: clip.emotion or "not labelled",
    "speaker": lambda clip: clip.speaker or "not named",
}


def metrics_table(
    rows: Iterable[SummaryRow], columns: Sequence[str], *, interval: bool = True
) -> str:
    """Markdown; a column is titled by the last part of its name."""
    lines = [
        [row.name, *(row.estimates[c].text(interval=interval) for c in columns)] for row in rows
    ]
    return markdown_table(["", *(title_of(c) for c in columns)], lines)


def title_of(column: str) -> str:
    for prefix in ("raw_iod_", "raw_", "iod_", "legacy_"):
        column = column.removeprefix(prefix)
    return TITLES[column]


def markdown(
    results: Mapping[str, Result], about: Mapping[str, Any], latency: str | None = None
) -> str:
    """The whole summary. ``about`` says what was scored and how (see :func:`as_json`)."""
    rows = summary_rows(results)
    parts = [
        f"# {', '.join(about['data'])}: {about['split']}, {about['clips']} clips",
        f"`{about['command']}`",
        f"Hop {about['hop']}, look-ahead {about['lookahead']} (frames). The "
        "emotion is neutral but where a row says that the clip's label is given. Means over "
        f"clips, in brackets 95 % percentile bootstrap intervals over clips ({RESAMPLES} "
        "resamples); clips of one speaker are alike, so between speakers the spread is wider.",
        *about["notes"],
        "## Aligned, in pixels of the 256 x 256 crop, and the lips",
        metrics_table(rows, ALIGNED),
    ]
    for title, prefix in (
        ("Aligned, in % of the inter-ocular distance", "iod_"),
        ("Raw, in pixels", "raw_"),
        ("Raw, in % of the inter-ocular distance", "raw_iod_"),
    ):
        parts += [f"## {title}", metrics_table(rows, [prefix + k for k in DISTANCES])]
    parts += [
        f"## legacy_*: what the authors' script computes, batches of {AUTHORS_BATCH}",
        "Frobenius norms of whole batches of 1-s windows in units of the crop's side, so they "
        "grow with the root of the batch size; their velocity is taken along the landmark axis "
        "(training/scores/legacy.py has the formulas).",
        metrics_table(rows, [f"legacy_{k}" for k in DISTANCES], interval=False),
    ]
    for what, key in GROUPS.items():
        groups = grouped_rows(results, key)
        if len({row.group for row in groups}) > 1:
            head = [what, "row", "clips", *(TITLES[c] for c in ALIGNED)]
            lines = [
                [
                    r.group,
                    r.name,
                    str(r.clips),
                    *(r.estimates[c].text(interval=False) for c in ALIGNED),
                ]
                for r in groups
            ]
            parts += [f"## By {what}, aligned, in pixels", markdown_table(head, lines, text=2)]
    if latency is not None:
        parts += ["## Accuracy against latency, aligned, in pixels", latency]
    return "\n\n".join(parts) + "\n"


def as_json(
    results: Mapping[str, Result],
    about: Mapping[str, Any],
    latency: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """{about, rows, by_emotion, by_speaker, latency}, rows as of :attr:`SummaryRow.json`."""
    whole: dict[str, Any] = {
        "about": dict(about),
        "rows": {row.name: row.json for row in summary_rows(results)},
    }
    for what, key in GROUPS.items():
        groups: dict[str, dict[str, Any]] = {}
        for row in grouped_rows(results, key):
            groups.setdefault(row.group, {})[row.name] = row.json
        whole[f"by_{what}"] = groups
    whole["latency"] = latency and [{k: json_value(v) for k, v in x.items()} for x in latency]
    return whole


def csv_rows(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """A row a clip and predictor."""
    return [
        {
            "name": clip.name,
            "row": name,
            "speaker": clip.speaker,
            "emotion": clip.emotion,
            "level": clip.level,
            "frames": clip.frames,
            **clip.metrics.by_name,
        }
        for name, result in results.items()
        for clip in result.clips
    ]
