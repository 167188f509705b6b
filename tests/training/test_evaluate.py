"""The command, from prepared corpora to tables, figures and a video, with the bundled weights."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kfusion.checkpoint import save_model
from kfusion.config import PRESETS
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS
from tests.training.corpora import talking, write_corpus
from tests.training.small_train import TINY
from training.corpus.format import Corpus
from training.evaluate import labels_of, main, open_animator
from training.models.networks import build, save_network
from training.scores.paper_tables import TABLE_1, TABLE_2
from training.scores.scoring import Model, constant_face, mean_displacement, score_predictor

REFERENCES = ["copy identity", "best constant", "still at own mean", "floor"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ann is trained on, Bob held out; each speaks a neutral and a happy clip."""
    clips = [
        talking(f"{speaker}-{k}", 10 * n + k, 1.0, speaker=speaker, emotion=emotion)
        for n, speaker in enumerate(("Bob", "Ann"))
        for k, emotion in enumerate(("neutral", "happy"))
    ]
    sides = {c.name: "validation" if c.speaker == "Bob" else "train" for c in clips}
    return write_corpus(tmp_path_factory.mktemp("corpora") / "labelled", clips, sides)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips without emotions, none to train on."""
    folder = tmp_path_factory.mktemp("corpora") / "plain"
    return write_corpus(
        folder, [talking(n, k, 1.0) for k, n in enumerate("ab")], dict.fromkeys("ab", "validation")
    )


@pytest.fixture(scope="module")
def scored(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scores of the labelled corpus, with latency and a video."""
    out = tmp_path_factory.mktemp("scores")
    command = ["--data", str(labelled), "--out", str(out), "--latency", "--video", "auto"]
    assert main([*command, "--table", "1"]) == 0
    return out


def rows_of(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads((folder / "summary.json").read_text())["rows"]


def csv_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_checkpoint_is_scored_with_the_emotion_neutral(labelled: Path, scored: Path) -> None:
    animator = open_animator(WEIGHTS, "cpu")
    clips = list(Corpus(labelled).clips("validation"))
    rows = rows_of(scored)
    for hop, lookahead in ((30, 0), (3, 3)):
        row = score_predictor(clips, Model(animator, hop, lookahead)).row
        for name in ("m_ld", "m_lvd", "f_ld", "f_lvd", "shape", "correlation", "gain", "raw_m_ld"):
            found = rows[f"bundled, {hop}/{lookahead}"][name]["value"]
            assert found == pytest.approx(row[name]), name


def test_the_label_is_a_row_of_its_own_where_clips_have_one(scored: Path) -> None:
    models = [f"bundled, {m}{x}" for m in ("30/0", "3/3") for x in (", label given", "")]
    assert list(rows_of(scored)) == [*models, *REFERENCES]
    lines = {(x["name"], x["row"]): float(x["f_ld"]) for x in csv_of(scored / "scores.csv")}
    assert len(lines) == 16
    assert lines["Bob-0", "bundled, 3/3"] == lines["Bob-0", "bundled, 3/3, label given"]  # neutral
    assert lines["Bob-1", "bundled, 3/3"] != lines["Bob-1", "bundled, 3/3, label given"]


def test_the_row_that_stands_for_the_paper_has_its_mode_and_the_label(scored: Path) -> None:
    summary = json.loads((scored / "summary.json").read_text())
    measured = [r for r in summary["table"]["rows"] if r["source"] != "published"]
    assert [r["method"] for r in measured][:2] == ["bundled, 30/0, label given", "bundled, 30/0"]
    assert measured[0]["source"] == "measured here, the paper's mode"
    assert {r["source"] for r in measured[1:]} == {"measured here"}
    row = summary["rows"]["bundled, 30/0, label given"]
    assert measured[0]["M-LD"] == f"{row['m_ld']['value']:.3f}"
    line = f"| bundled, 30/0, label given | labelled (validation) | {measured[0]['source']} |"
    assert line in (scored / "summary.md").read_text()


def test_branches_are_reported_of_each_kfusion_in_each_mode(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    common = ["--data", str(plain), "--modes", "30/0", "--out", str(out)]
    assert main([*common, "--branches"]) == 0
    found = json.loads((out / "summary.json").read_text())
    assert list(found["branches"]) == ["bundled, 30/0"]
    shares = found["branches"]["bundled, 30/0"]
    assert [s["held"] for s in shares][:6] == ["nothing", "f", "ct", "m", "gb", "gb_m"]
    row = found["rows"]["bundled, 30/0"]
    assert shares[0]["m_ld"] == pytest.approx(row["m_ld"]["value"], abs=1e-4)
    assert "| bundled, 30/0 | Global Domain (gb, gb_m) | " in (out / "summary.md").read_text()


def test_a_corpus_that_nothing_was_trained_on_takes_the_best_constant_of_another(
    plain: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(plain), "--split", "all", "--modes", "30/0", "--out", str(tmp_path)]
    assert main([*command, "--constant-from", str(labelled)]) == 0
    constant = mean_displacement(Corpus(labelled).clips("train"))
    clips = list(Corpus(plain).clips())
    row = score_predictor(clips, lambda clip: constant_face(clip, constant)).row
    rows = rows_of(tmp_path)
    assert rows["best constant"]["m_ld"]["value"] == pytest.approx(row["m_ld"])
    assert main([*command, "--constant-from", str(plain)]) == 2
    assert "plain: no train clips" in capsys.readouterr().err


def test_without_a_training_side_the_best_constant_is_left_out_with_a_note(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(plain)]) == 0
    printed = capsys.readouterr().out
    assert "No row for the best constant" in printed and "| best constant" not in printed


def test_latency_is_swept_and_drawn(scored: Path) -> None:
    rows = [x for x in csv_of(scored / "latency.csv") if x["row"] == "bundled"]
    at = {(int(x["hop"]), int(x["lookahead"])): x for x in rows}
    assert float(at[30, 0]["latency_ms"]) == 1000 and float(at[3, 3]["latency_ms"]) == 200
    assert float(at[3, 3]["m_ld"]) == pytest.approx(
        rows_of(scored)["bundled, 3/3"]["m_ld"]["value"]
    )
    assert float(at[3, 0]["m_ld"]) != float(at[3, 6]["m_ld"])
    assert (scored / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert "Accuracy against latency" in (scored / "summary.md").read_text()


def test_the_overlay_has_the_truth_in_blue_and_the_prediction_in_red(scored: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.asarray(image.open(scored / "overlay.png").convert("RGB")).astype(int)
    red, _, blue = np.moveaxis(pixels, -1, 0)
    assert ((blue - red) > 120).sum() > 500
    assert ((red - blue) > 120).sum() > 500


def test_the_video_has_both_faces_and_the_sound(scored: Path) -> None:
    av: Any = pytest.importorskip("av", reason="PyAV is not installed")
    (path,) = scored.glob("*.mp4")
    with av.open(str(path)) as file:
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in file.decode(video=0)]
    with av.open(str(path)) as file:
        sound = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
    assert len(pictures) == 30 and len(sound) >= 16_000
    assert np.abs(sound).max() > 0.05
    middle = pictures[0].shape[1] // 2
    tint = pictures[15][..., 2] - pictures[15][..., 0]
    assert (tint[:, :middle] > 60).sum() > 300 > (tint[:, :middle] < -60).sum()
    assert (tint[:, middle:] < -60).sum() > 300 > (tint[:, middle:] > 60).sum()


def test_table_1_marks_what_was_published_and_what_was_measured_here(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", str(plain), "--table", "1", "--label", "mine"]
    assert main([*command, "--out", str(tmp_path), "--video", "a"]) == 0
    assert (tmp_path / "a.mp4").is_file()
    printed = capsys.readouterr().out
    published = sum(len(rows) for rows in TABLE_1.values())
    assert printed.count("| published |") == published == 11
    assert "| Cao et al. | MEAD | published | 2023 | 1.92 | 0.97 | 1.25 | 0.70 |" in printed
    ours = re.search(
        r"\| mine, 30/0 \| plain \(validation\) \| measured here, the paper's mode \|  \| ([\d.]+)",
        printed,
    )
    row = re.search(r"\| mine, 30/0 \| ([\d.]+) \[", printed)
    assert ours and row and ours[1] == row[1]


def test_rivals_are_marked_and_compared_with_the_first(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_network(tmp_path / "rival.safetensors", build("chen", TINY), {})
    files = [str(WEIGHTS), str(tmp_path / "rival.safetensors")]
    command = ["--data", str(plain), "--table", "1", "--modes", "30/0", "--label", "ours", "theirs"]
    assert main([*command, "--checkpoint", *files]) == 0
    printed = capsys.readouterr().out
    assert "| Chen et al., AT-net (theirs), 30/0 | plain (validation) | measured here, re-made" in (
        printed
    )
    assert "## Compared with ours, 30/0" in printed
    assert re.search(
        r"\| theirs \| [+-][\d.]+ \[[^|]+\], p [\d.]+, (ahead|behind|level) \|", printed
    )


def test_table_2_knows_the_variants_by_their_configuration(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(PRESETS["compact"], width=16, heads=2, feedforward=16, lstm_width=8,
                    bottleneck=4, kan_hidden=4, global_layers=1, content_layers=1)  # fmt: skip
    files: list[str] = []
    for name, config in {
        "one": replace(small, fusion=False, head="none"),
        "two": replace(small, lstm=False),
        "three": replace(small, global_domain=False),
        "four": replace(small, head="mlp"),
        "five": small,
        "six": replace(small, kan_hidden=5),
    }.items():
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / "model.safetensors", KFusion(config), {})
        files.append(str(tmp_path / name / "model.safetensors"))
    command = ["--data", str(plain), "--table", "2", "--modes", "30/0"]
    assert main([*command, "--checkpoint", *files]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| published |") == len(TABLE_2) == 5
    measured = re.findall(r"\| ([^|]+) \| plain \(validation\) \| measured here", printed)
    names = ["w/o KFusion", "w/o LSTM", "w/o Global", "repl MLP", "Proposed", "Proposed"]
    assert measured == [
        f"{name} ({label}), 30/0"
        for name, label in zip(names, ("one", "two", "three", "four", "five", "six"), strict=True)
    ]


def test_checkpoints_are_named_for_their_folders() -> None:
    a, b, c = Path("runs/a/model.safetensors"), Path("runs/b/model.safetensors"), Path("runs/b/x.y")
    assert labels_of([WEIGHTS, a, b]) == ["bundled", "a", "b"]
    assert labels_of([a, b, c]) == ["a", "b/model", "b/x"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--data", "{}/nowhere"], "no prepared corpus"),
        (["--checkpoint", "{}/no.safetensors"], "no such file"),
        (["--phones", "{}/no.tsv"], "no table of phones"),
        (["--split", "train"], "no train clips"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--out", "{}/new", "--video", "Eve"], "no validation clip has this name"),
    ],
)
def test_what_cannot_be_scored_is_told_in_a_line(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    more = [m.format(tmp_path) for m in more]
    assert main(["--data", str(plain), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kfusion-evaluate: ") and says in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "more",
    [
        ["--modes", "4/0"],
        ["--modes", "30/0", "30/1"],
        ["--modes", "3"],
        ["--label", "a", "b"],
        ["--checkpoint", "x", "y", "--label", "a", "a"],
        ["--video", "auto"],
    ],
)
def test_options_that_do_not_go_together_are_refused(plain: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--data", str(plain), *more])
    assert stopped.value.code == 2
