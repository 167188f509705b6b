"""From clips' figures to tables: means with bootstrap intervals, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.scores.metrics import DISTANCES
from training.scores.scoring import Result, Scored

RESAMPLES: Final = 2000
LIPS: Final = ("correlation", "gain", "abs_lag", "closure")
ALIGNED: Final = (*DISTANCES, *LIPS)
LEGACY: Final = tuple(f"legacy_{k}" for k in DISTANCES)
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
    low: float = float("nan")
    high: float = float("nan")

    def text(self, *, interval: bool = True) -> str:
        """As a table's cell; empty for nan."""
        if not isfinite(self.mean):
            return ""
        if not interval or not isfinite(self.low):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimates(each: Sequence[Scored], seed: int = 0) -> dict[str, Estimate]:
    """Every figure's mean over clips, with the percentile bootstrap (Efron 1979) over clips.

    Each of 2000 resamples draws as many clips as there are, with replacement; the interval is
    that of their means between 2.5 and 97.5 %. A clip in which a figure is undefined counts for
    none of it; ``closure`` is found over there, both resampled. Rows of as many clips are
    resampled alike. A single clip has no interval.
    """
    names = list(each[0].scores.figures)
    values = np.array([list(s.scores.figures.values()) for s in each], np.float64)
    above, below = np.nan_to_num(values), np.isfinite(values).astype(np.float64)
    names.append("closure")
    found, there = (values[:, names.index(k)] for k in ("found", "there"))
    above, below = np.column_stack([above, found]), np.column_stack([below, there])
    count = len(each)
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
        ends = (float("nan"), float("nan"))
        if count > 1 and len(column):
            low, high = np.percentile(column, [2.5, 97.5])
            ends = float(low), float(high)
        out[name] = Estimate(float(mean[k]), *ends)
    return out


def result_estimates(result: Result) -> dict[str, Estimate]:
    """:func:`estimates` with the ``legacy_*`` figures, which are of batches: no interval."""
    legacy = {name: Estimate(value) for name, value in result.legacy.row.items()}
    return {**estimates(result.each), **legacy}


def grouped(
    results: Mapping[str, Result], key: Callable[[Scored], str]
) -> dict[str, dict[str, tuple[int, dict[str, Estimate]]]]:
    """{group: {row: (clips, estimates)}}, groups sorted."""
    groups = sorted({key(s) for r in results.values() for s in r.each})
    out: dict[str, dict[str, tuple[int, dict[str, Estimate]]]] = {}
    for group in groups:
        out[group] = {}
        for name, result in results.items():
            each = [s for s in result.each if key(s) == group]
            out[group][name] = len(each), estimates(each)
    return out


def emotion_of(scored: Scored) -> str:
    return scored.emotion or "not labelled"


def speaker_of(scored: Scored) -> str:
    return scored.speaker or "not named"


def table(head: Sequence[str], lines: Iterable[Sequence[str]], text: int = 1) -> str:
    """Markdown; the first ``text`` columns are text, the others numbers."""
    rule = "|" + "---|" * text + "---:|" * (len(head) - text)
    rows = ["| " + " | ".join(cells) + " |" for cells in (head, *lines)]
    return "\n".join([rows[0], rule, *rows[1:]])


def figures_table(
    rows: Mapping[str, Mapping[str, Estimate]], columns: Sequence[str], *, interval: bool = True
) -> str:
    """Rows of figures; a column is titled by the last part of its name."""
    head = ["", *(title_of(c) for c in columns)]
    lines = [[name, *(row[c].text(interval=interval) for c in columns)]
             for name, row in rows.items()]  # fmt: skip
    return table(head, lines)


def title_of(column: str) -> str:
    for prefix in ("raw_iod_", "raw_", "iod_", "legacy_"):
        column = column.removeprefix(prefix)
    return TITLES[column]


def markdown(
    results: Mapping[str, Result], about: Mapping[str, Any], latency: str | None = None
) -> str:
    """The whole summary. ``about`` says what was scored and how (see :func:`as_json`)."""
    rows = {name: result_estimates(result) for name, result in results.items()}
    batch = about["legacy_batch"]
    parts = [
        f"# {', '.join(about['data'])}: {about['split']}, {about['clips']} clips",
        f"`{about['command']}`",
        f"Hop {about['hop']}, look-ahead {about['lookahead']} (frames), {about['path']}. The "
        "emotion is neutral but where a row says that the clip's label is given. Means over "
        f"clips, in brackets 95 % percentile bootstrap intervals over clips ({RESAMPLES} "
        "resamples); clips of one speaker are alike, so between speakers the spread is wider.",
        *about["notes"],
        "## Aligned, in pixels of the 256 x 256 crop, and the lips",
        figures_table(rows, ALIGNED),
        "## Aligned, in % of the inter-ocular distance",
        figures_table(rows, [f"iod_{k}" for k in DISTANCES]),
        "## Raw, in pixels",
        figures_table(rows, [f"raw_{k}" for k in DISTANCES]),
        "## Raw, in % of the inter-ocular distance",
        figures_table(rows, [f"raw_iod_{k}" for k in DISTANCES]),
        f"## legacy_*: what the authors' script computes, batches of {batch}",
        "Frobenius norms of whole batches of 1-s windows in units of the crop's side, so they "
        "grow with the root of the batch size; their velocity is taken along the landmark axis "
        "(training/scores/legacy.py has the formulas).",
        figures_table(rows, LEGACY, interval=False),
    ]
    for what, key in (("emotion", emotion_of), ("speaker", speaker_of)):
        groups = grouped(results, key)
        if len(groups) > 1:
            head = [what, "row", "clips", *(TITLES[c] for c in ALIGNED)]
            lines = [
                [group, name, str(count), *(row[c].text(interval=False) for c in ALIGNED)]
                for group, rows_of in groups.items()
                for name, (count, row) in rows_of.items()
            ]
            parts += [f"## By {what}, aligned, in pixels", table(head, lines, text=2)]
    if latency is not None:
        parts += ["## Accuracy against latency, aligned, in pixels", latency]
    return "\n\n".join(parts) + "\n"


def as_json(
    results: Mapping[str, Result],
    about: Mapping[str, Any],
    latency: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """{about, rows, by_emotion, by_speaker, latency}; a figure is {mean, low, high}, null where
    undefined.
    """

    def row(given: Mapping[str, Estimate]) -> dict[str, Any]:
        return {
            name: {k: v if isfinite(v) else None for k, v in asdict(e).items()}
            for name, e in given.items()
        }

    def groups(key: Callable[[Scored], str]) -> dict[str, Any]:
        return {
            group: {name: {"clips": n, **row(e)} for name, (n, e) in rows.items()}
            for group, rows in grouped(results, key).items()
        }

    return {
        "about": dict(about),
        "rows": {name: row(result_estimates(result)) for name, result in results.items()},
        "by_emotion": groups(emotion_of),
        "by_speaker": groups(speaker_of),
        "latency": latency and [{k: _plain(v) for k, v in line.items()} for line in latency],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def write_csv(path: Path, results: Mapping[str, Result]) -> None:
    """One line a clip and row."""
    lines = [
        {
            "name": s.name,
            "row": name,
            "speaker": s.speaker,
            "emotion": s.emotion or "",
            "level": "" if s.level is None else s.level,
            "frames": s.frames,
            **s.scores.figures,
        }
        for name, result in results.items()
        for s in result.each
    ]
    write_lines(path, lines)


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """CSV with the first line's keys as its head; nan is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        for line in lines:
            writer.writerow({k: "" if _plain(v) is None else v for k, v in line.items()})
