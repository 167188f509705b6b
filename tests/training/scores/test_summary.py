import json

from tests.training.scores.scored_clips import clip
from training.scores.comparison import comparisons
from training.scores.modes import Mode
from training.scores.paper_tables import MeasuredRow, paper_table
from training.scores.scoring import Result
from training.scores.summary import Summary

ABOUT = {
    "command": "python -m training.evaluate",
    "data": ["here"],
    "split": "validation",
    "clips": 3,
    "modes": ["3/3"],
    "notes": ["A note."],
}


def three() -> dict[str, Result]:
    each = [
        clip("a", "Ann", "happy", m_ld=1.0, closures_found=1, closures=2),
        clip("b", "Ann", "sad", m_ld=2.0, closures_found=0, closures=1),
        clip("c", "Bob", "happy", m_ld=6.0),
    ]
    return {"model": Result(clips=each), "floor": Result(clips=each[:])}


def summary() -> Summary:
    results = three()
    row = MeasuredRow("model", "kfusion", Mode(30, 0), results["model"].row)
    compared = comparisons({name: [r.clips] for name, r in results.items()}, "model")
    return Summary(results, ABOUT, {"model": compared}, (1, paper_table(1, [row], "here")))


def test_the_markdown_has_each_kind_of_figure_and_each_group() -> None:
    text = summary().markdown
    for title in ("## Aligned", "Raw, in %", "batches of 4", "By emotion", "By speaker",
                  "Compared with model", "Table 1 of the paper", "The least and"):  # fmt: skip
        assert title in text
    assert "| happy | model | 2 | 3.500 |" in text
    assert "| Bob | model | 1 | 6.000 |" in text
    assert "| floor | +0.000 [+0.000, +0.000], p 1.000, level |" in text
    assert "| model | 1.000 .. 6.000 |" in text
    assert "| model, 30/0 | here | measured here, the paper's mode |" in text
    assert "A note." in text
    alone = {"model": Result(clips=[clip("a"), clip("b")])}
    assert "By emotion" not in Summary(alone, ABOUT).markdown


def test_columns_that_are_undefined_in_every_row_are_left_out() -> None:
    assert "closure recall |" in summary().short
    alone = {"model": Result(clips=[clip("a"), clip("b")])}
    assert "closure recall |" not in Summary(alone, ABOUT).short


def test_the_json_has_null_for_what_is_undefined() -> None:
    again = json.loads(json.dumps(summary().json, allow_nan=False))
    assert again["rows"]["model"]["m_ld"]["value"] == 3
    assert again["rows"]["model"]["legacy_m_ld"]["value"] is None
    assert again["by_speaker"]["Ann"]["model"]["clips"] == 2
    assert again["by_emotion"]["sad"]["floor"]["m_ld"] == {"value": 2.0, "low": None, "high": None}
    assert again["comparisons"]["model"]["floor"]["m_ld"]["verdict"] == "level"
    assert again["table"]["number"] == 1
    assert again["table"]["rows"][-1]["M-LD"] == "3.000"
