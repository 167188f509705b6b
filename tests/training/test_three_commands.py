"""Prepare, train, evaluate, as the README has them, on real speech of three tracked speakers."""

import csv
from pathlib import Path

import pytest

from tests.conftest import folder_of
from training import ablate, evaluate, prepare, train
from training.corpus.format import Corpus

NAMES = r"(?P<speaker>[MW]\d+)_level_(?P<level>\d)_(?P<emotion>[a-z]+)_.*"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_from_tracks_to_the_papers_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, corpus = folder_of("mead_speech"), tmp_path / "corpus"
    command = ["--source", str(source), "--out", str(corpus), "--name", NAMES, "--processes", "1"]
    assert prepare.main(command) == 0
    assert "split by speaker, seed 0: held out W023 (1 of 3 clips)" in capsys.readouterr().out
    labels = {(e.speaker, e.emotion, e.level) for e in Corpus(corpus).entries}
    assert labels == {("M003", "disgusted", 1), ("W023", "surprised", 2), ("W036", "happy", 3)}

    out = tmp_path / "run"
    options = ["--steps", "4", "--batch", "4", "--threads", "1", "--device", "cpu"]
    checkpoint = train.train(
        train.arguments(["--data", str(corpus), "--out", str(out), *options])
    ).checkpoint

    scores = tmp_path / "scores"
    command = ["--data", str(corpus), "--checkpoint", str(checkpoint), "--out", str(scores),
               "--table", "1", "--video", "auto"]  # fmt: skip
    assert evaluate.main(command) == 0
    said = capsys.readouterr().out
    assert "| KFusion (the paper) | MEAD | published |  | 1.33 | 0.81 | 1.22 | 0.59 |" in said
    with (scores / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["speaker"], r["emotion"]) for r in rows} == {("W023", "surprised")}
    summary = (scores / "summary.md").read_text()
    assert "label given" in summary
    assert list(scores.glob("*.mp4")) and (scores / "overlay.png").stat().st_size > 10_000

    rows_out = str(tmp_path / "rows")
    command = ["--data", str(corpus), "--out", rows_out, "--rows", "kfusion", "transformer",
               "--threads", "1", "--device", "cpu", "--", "--steps", "2"]  # fmt: skip
    assert ablate.main(command) == 0
    assert "| KFusion (proposed) | " in capsys.readouterr().out
