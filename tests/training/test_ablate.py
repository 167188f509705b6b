"""The table of variants: made row by row, resumed, and printed."""

import json
from pathlib import Path

import pytest

from tests.training.corpora import one_speaker, talking, write_corpus
from training import train
from training.ablate import main


@pytest.mark.usefixtures("tiny")
def test_rows_are_made_once_resumed_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = one_speaker(tmp_path / "c")
    made: list[str] = []
    real = train.train

    def counted(options: object) -> train.Trained:
        done = real(options)  # pyright: ignore[reportArgumentType]
        made.append(f"{done.checkpoint.parent.name} {done.steps}")
        return done

    monkeypatch.setattr(train, "train", counted)
    command = ["--data", str(corpus), "--out", str(tmp_path / "runs"), "--rows", "mlp", "cao",
               "--seeds", "1", "2", "--threads", "1", "--device", "cpu"]  # fmt: skip
    options = ["--", "--steps", "2", "--batch", "4"]
    assert main([*command, "--only", "cao-2", *options]) == 0
    assert main([*command, *options]) == 0
    assert main([*command, *options]) == 0
    assert made[:5] == ["cao-2 2", "mlp-1 2", "cao-1 2", "mlp-2 2", "cao-2 0"]
    assert all(name.endswith(" 0") for name in made[5:]) and len(made) == 9
    lines = capsys.readouterr().out.splitlines()
    head, _, mlp, cao = lines[-4:]
    assert head.startswith("|  | M-LD | M-LVD | F-LD | F-LVD |")
    assert mlp.startswith("| repl MLP (2 seeds) | ") and "1.380 / 2.520 / 3.990 / 3.480" in mlp
    assert cao.startswith("| Cao et al., SpeechSyncNet (2 seeds) | ")
    kept = (tmp_path / "runs" / "mlp-1" / "scores.json").read_text()
    assert main([*command, "--only", "mlp-1", "--lookahead", "0", *options]) == 0
    other = (tmp_path / "runs" / "mlp-1" / "scores.json").read_text()
    assert json.loads(kept)["m_ld"] != json.loads(other)["m_ld"]  # scored anew
    assert main([*command, "--only", "chen-1"]) == 2
    assert "--only chen-1; wanted some of mlp-1, cao-1" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_what_only_trains_is_trained_on_and_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = one_speaker(tmp_path / "c")
    more = write_corpus(tmp_path / "voices", [talking("other", 9)], {"other": "train"})
    command = ["--out", str(tmp_path / "runs"), "--rows", "mlp", "--threads", "1",
               "--device", "cpu"]  # fmt: skip
    options = ["--", "--steps", "1", "--batch", "4"]
    assert main(["--data", str(corpus), str(more), *command, *options]) == 0
    assert "| repl MLP | " in capsys.readouterr().out
    assert main(["--data", str(more), *command, *options]) == 2
    assert "voices: no validation clips among 1" in capsys.readouterr().err
