"""The table of variants: made row by row, resumed, and printed."""

import json
import re
from pathlib import Path

import pytest

from tests.training.corpora import one_speaker, talking, write_corpus
from training import train
from training.ablate import main
from training.corpus.splits import Split
from training.scores.paper_tables import TABLE_1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were trained, each with its steps."""
    names: list[str] = []
    real = train.train

    def counted(options: train.TrainConfig) -> train.Trained:
        done = real(options)
        names.append(f"{done.checkpoint.parent.name} {done.steps}")
        return done

    monkeypatch.setattr(train, "train", counted)
    return names


COMMON = ["--threads", "1", "--device", "cpu"]
STEPS = ["--", "--steps", "2", "--batch", "4"]


@pytest.mark.usefixtures("tiny")
def test_rows_are_made_once_resumed_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: list[str]
) -> None:
    corpus, out = one_speaker(tmp_path / "c"), tmp_path / "runs"
    command = ["--data", str(corpus), "--out", str(out), "--rows", "mlp", "cao",
               "--seeds", "1", "2", "--modes", "30/0", *COMMON]  # fmt: skip
    assert main([*command, "--only", "cao-2", *STEPS]) == 0
    assert main([*command, *STEPS]) == 0
    printed = capsys.readouterr().out
    assert main([*command, *STEPS]) == 0
    assert made == ["cao-2 2", "mlp-1 2", "cao-1 2", "mlp-2 2"]  # once each
    again = capsys.readouterr().out.split("## ")[1:]
    assert again == printed.split("## ")[-len(again) :]
    lines = again[0].splitlines()
    assert lines[0] == "Hop and look-ahead 30/0: aligned, means over seeds"
    head, _, mlp, cao = lines[2:6]
    assert head.startswith("|  | seeds | parameters | with frozen ones | M-LD | ratio | centred |")
    assert mlp.startswith("| repl MLP | 2 | ") and cao.startswith("| Cao et al., SpeechSyncNet | 2")
    assert "| Cao et al., SpeechSyncNet | " in printed.split("less repl MLP")[1]
    shares = again[1].splitlines()
    assert shares[0] == "What each branch adds, 30/0, means over seeds"
    held = [line.split(" | ")[1] for line in shares if line.startswith("| repl MLP | ")]
    assert held[:6] == ["nothing", "f", "ct", "m", "gb", "gb_m"]
    assert not any(line.startswith("| Cao") for line in shares)  # it has no branches
    # A further mode is scored with the networks that are there.
    assert main([*command, "--modes", "30/0", "3/0", *STEPS]) == 0
    assert made[4:] == ["mlp-1 0", "cao-1 0", "mlp-2 0", "cao-2 0"]
    kept = json.loads((out / "mlp-1" / "scores.json").read_text())
    modes = {name: result["clips"]["m_ld"] for name, result in kept["results"].items()}
    assert modes["30/0"] != modes["3/0"] and len(modes["3/0"]) == 1
    assert kept["parameters"]["trainable"] == kept["parameters"]["all"] > 1000
    assert (out / "tables.md").read_text() in capsys.readouterr().out
    assert list(json.loads((out / "tables.json").read_text())["modes"]) == ["30/0", "3/0"]
    assert main([*command, "--only", "chen-1"]) == 2
    assert "--only chen-1; wanted some of mlp-1, cao-1" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_kept_results_make_the_tables_without_the_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: list[str]
) -> None:
    corpus, results = one_speaker(tmp_path / "c"), tmp_path / "results"
    command = ["--data", str(corpus), "--results", str(results), "--rows", "table1", "mlp",
               "--modes", "30/0", "--only", "kfusion-1", "chen-1", *COMMON]  # fmt: skip
    assert main([*command, "--out", str(tmp_path / "runs"), *STEPS]) == 0
    assert made == ["kfusion-1 2", "chen-1 2"]
    assert sorted(results.glob("**/*.json")) == [
        results / "chen/1.json",
        results / "kfusion/1.json",
    ]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "elsewhere"), *STEPS]) == 0
    assert len(made) == 2
    printed = capsys.readouterr().out
    measured = re.findall(r"\| ([^|]+) \| c \(validation\) \| ([^|]+) \|", printed)
    assert measured == [
        ("KFusion (proposed), 30/0", "measured here, the paper's mode"),
        ("Chen et al., AT-net, 30/0", "measured here, re-made rival, the paper's mode"),
    ]
    assert printed.count("| published |") == sum(map(len, TABLE_1.values()))
    # Rows of other options, or of other clips to learn from, are not passed off as these.
    other = ["--out", str(tmp_path / "elsewhere"), "--", "--steps", "3", "--batch", "4"]
    assert main([*command, *other]) == 2
    assert "1.json: is of a network trained with steps 2; wanted steps 3" in (
        capsys.readouterr().err
    )
    more = write_corpus(tmp_path / "more", [talking("other", 9)], {"other": "train"})
    command[1:2] = [str(corpus), str(more)]
    assert main([*command, "--out", str(tmp_path / "elsewhere"), *STEPS]) == 2
    assert "is of a network trained with clips" in capsys.readouterr().err
    assert len(made) == 2


@pytest.mark.usefixtures("tiny")
def test_other_clips_held_out_are_scored_anew(tmp_path: Path, made: list[str]) -> None:
    out = tmp_path / "runs"
    command = ["--out", str(out), "--rows", "mlp", "--modes", "30/0", *COMMON]
    clips = [talking(f"clip{k}", k) for k in range(3)]
    sides: dict[str, Split] = {"clip0": "train", "clip1": "validation", "clip2": "validation"}
    one = write_corpus(tmp_path / "one", clips[:2], sides)
    two = write_corpus(tmp_path / "two", clips, sides)
    assert main(["--data", str(one), *command, *STEPS]) == 0
    assert main(["--data", str(two), *command, *STEPS]) == 0
    assert made == ["mlp-1 2", "mlp-1 0"]
    kept = json.loads((out / "mlp-1" / "scores.json").read_text())
    assert kept["results"]["30/0"]["clips"]["name"] == ["clip1", "clip2"]


@pytest.mark.usefixtures("tiny")
def test_what_only_trains_is_trained_on_and_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = one_speaker(tmp_path / "c")
    more = write_corpus(tmp_path / "voices", [talking("other", 9)], {"other": "train"})
    command = ["--out", str(tmp_path / "runs"), "--rows", "mlp", "--modes", "30/0", *COMMON]
    options = ["--", "--steps", "1", "--batch", "4"]
    assert main(["--data", str(corpus), str(more), *command, *options]) == 0
    assert "| repl MLP | " in capsys.readouterr().out
    assert main(["--data", str(more), *command, *options]) == 2
    assert "voices: no validation clips among 1" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_all_clips_of_another_corpus_are_a_test_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: list[str]
) -> None:
    corpus, out = one_speaker(tmp_path / "c"), tmp_path / "runs"
    clips = [talking(f"other{k}", 20 + k, speaker="another") for k in range(2)]
    sides: dict[str, Split] = {"other0": "train", "other1": "validation"}
    others = write_corpus(tmp_path / "others", clips, sides)
    command = [
        "--data",
        str(corpus),
        "--out",
        str(out),
        "--rows",
        "mlp",
        "--modes",
        "30/0",
        *COMMON,
    ]
    assert main([*command, *STEPS]) == 0
    assert main([*command, "--test", str(others), *STEPS]) == 0
    assert made == ["mlp-1 2", "mlp-1 0"]
    assert "# others (all)" in capsys.readouterr().out
    kept = json.loads((out / "mlp-1" / "scores-others.json").read_text())
    assert kept["results"]["30/0"]["clips"]["name"] == ["other0", "other1"]
    assert (out / "mlp-1" / "scores.json").exists() and (out / "tables-others.md").exists()
    # Who is trained on is no test.
    assert main([*command, "--test", str(corpus), *STEPS]) == 2
    assert "speakers someone are both trained on and held out" in capsys.readouterr().err
