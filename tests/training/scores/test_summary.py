import json
from dataclasses import replace
from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion.landmarks import NEUTRAL
from training.scores.metrics import ClipMetrics, clip_metrics
from training.scores.scoring import ClipScore, Result, means
from training.scores.summary import as_json, bootstrap_estimates, markdown

FACES = np.repeat(NEUTRAL[None], 4, axis=0)
PLAIN = clip_metrics(FACES, FACES, NEUTRAL)
ABOUT = {
    "command": "python -m training.evaluate",
    "data": ["here"],
    "split": "validation",
    "clips": 3,
    "hop": 3,
    "lookahead": 3,
    "notes": ["A note."],
}


def clip(
    name: str = "a", speaker: str = "s", emotion: str | None = None, **metrics: float
) -> ClipScore:
    filled: ClipMetrics = replace(PLAIN, **metrics)
    return ClipScore(name, speaker, emotion, None, 4, filled)


def three() -> dict[str, Result]:
    each = [
        clip("a", "Ann", "happy", m_ld=1.0, closures_found=1, closures=2),
        clip("b", "Ann", "sad", m_ld=2.0, closures_found=0, closures=1),
        clip("c", "Bob", "happy", m_ld=6.0),
    ]
    return {"model": Result(clips=each), "floor": Result(clips=each[:])}


@given(st.lists(st.floats(0, 9), min_size=2, max_size=30), st.integers(0, 5))
def test_the_interval_holds_the_mean_and_lies_within_the_data(
    values: list[float], seed: int
) -> None:
    found = bootstrap_estimates([clip(m_ld=v) for v in values], seed)["m_ld"]
    assert found.mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == bootstrap_estimates([clip(m_ld=v) for v in values], seed)["m_ld"]


def test_the_interval_is_as_wide_as_the_spread_of_a_mean() -> None:
    """Of many clips the bootstrap's ends are 1.96 standard errors away."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap_estimates([clip(m_ld=v) for v in values])["m_ld"]
    error = values.std() / sqrt(400)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_one_clip_has_a_mean_and_no_interval() -> None:
    found = bootstrap_estimates([clip(m_ld=1.5)])["m_ld"]
    assert found.mean == 1.5 and isnan(found.low) and isnan(found.high)
    assert found.text() == "1.500"


def test_a_clip_without_a_figure_counts_for_none_of_it() -> None:
    each = [clip(gain=float("nan")), clip(gain=0.5), clip(gain=0.7)]
    found = bootstrap_estimates(each)["gain"]
    assert found.mean == pytest.approx(0.6)
    assert (found.low, found.high) == pytest.approx((0.5, 0.7))
    assert bootstrap_estimates([clip(gain=float("nan"))] * 2)["gain"].text() == ""


def test_means_and_estimates_agree() -> None:
    each = three()["model"].clips
    row, found = means(each), bootstrap_estimates(each)
    for name, estimate in found.items():
        assert estimate.mean == pytest.approx(row[name], nan_ok=True), name


def test_the_markdown_has_each_kind_of_figure_and_each_group() -> None:
    text = markdown(three(), ABOUT)
    for title in ("Aligned, in pixels", "Raw, in %", "batches of 4", "By emotion", "By speaker"):
        assert title in text
    assert "| happy | model | 2 | 3.500 |" in text
    assert "| Bob | model | 1 | 6.000 |" in text
    assert "A note." in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| model")}
    assert widths == {10, 6}
    alone = {"model": Result(clips=[clip("a"), clip("b")])}
    assert "By emotion" not in markdown(alone, ABOUT)


def test_the_json_has_null_for_what_is_undefined() -> None:
    whole = as_json(three(), ABOUT)
    again = json.loads(json.dumps(whole, allow_nan=False))
    assert again["rows"]["model"]["m_ld"]["mean"] == 3
    assert again["rows"]["model"]["legacy_m_ld"]["mean"] is None
    assert again["by_speaker"]["Ann"]["model"]["clips"] == 2
    assert again["by_emotion"]["sad"]["floor"]["m_ld"] == {"mean": 2.0, "low": None, "high": None}
