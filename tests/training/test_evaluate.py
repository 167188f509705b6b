"""The command, from prepared corpora to tables, figures and a video, with the bundled weights."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kfusion.checkpoint import save_model
from kfusion.config import PRESETS
from kfusion.emotion import displacement, vector
from kfusion.landmarks import INNER_LOWER, NEUTRAL
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS
from tests.conftest import voice
from training.corpus.clips import Clip
from training.corpus.format import Corpus, CorpusWriter, Header
from training.corpus.splits import Split
from training.evaluate import labels_of, main, score_checkpoint
from training.scores.paper_tables import TABLE_1, TABLE_2


def clip_of(name: str, speaker: str, emotion: str | None, seed: int) -> Clip:
    """A second of sound and a face in an emotion whose mouth opens and closes."""
    points = np.repeat(NEUTRAL[None], 31, axis=0)
    points[:, INNER_LOWER, 1] += 5 * np.abs(np.sin(np.arange(31) / 4 + seed))[:, None]
    points = points + displacement(vector({emotion: 1.0} if emotion else {}))
    return Clip(name, voice(31 / 30, seed=seed), points, speaker, emotion)


def corpus_of(folder: Path, emotions: tuple[str | None, ...], *, train: bool = True) -> Path:
    header = Header(folder.name, "tracks", "speaker", 0, 0.5, ["Bob"])
    with CorpusWriter(folder, header) as corpus:
        sides: list[tuple[str, Split]] = [("Bob", "validation")]
        if train:
            sides.append(("Ann", "train"))
        for n, (speaker, split) in enumerate(sides):
            for k, emotion in enumerate(emotions):
                name = f"{speaker}-{k}"
                corpus.add(clip_of(name, speaker, emotion, 10 * n + k), split)
        corpus.finish()
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("corpora") / "labelled", ("neutral", "happy"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_of(tmp_path_factory.mktemp("corpora") / "plain", (None, None), train=False)


def rows_of(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads((folder / "summary.json").read_text())["rows"]


def test_a_checkpoint_is_scored_with_the_emotion_neutral(labelled: Path, tmp_path: Path) -> None:
    row = score_checkpoint(WEIGHTS, Corpus(labelled).clips("validation"))
    assert main(["--data", str(labelled), "--out", str(tmp_path)]) == 0
    rows = rows_of(tmp_path)
    for name in ("m_ld", "m_lvd", "f_ld", "f_lvd", "correlation", "gain", "abs_lag", "raw_m_ld"):
        assert rows["bundled"][name]["mean"] == pytest.approx(row[name]), name


def test_the_label_is_a_row_of_its_own_where_clips_have_one(
    labelled: Path, plain: Path, tmp_path: Path
) -> None:
    still = ["copy identity", "best constant", "floor"]
    assert main(["--data", str(labelled), "--out", str(tmp_path / "a")]) == 0
    assert list(rows_of(tmp_path / "a")) == ["bundled", "bundled, label given", *still]
    with (tmp_path / "a" / "scores.csv").open(newline="") as file:
        lines = {(x["name"], x["row"]): float(x["f_ld"]) for x in csv.DictReader(file)}
    assert len(lines) == 10
    assert lines["Bob-0", "bundled"] == lines["Bob-0", "bundled, label given"]  # neutral
    assert lines["Bob-1", "bundled"] != lines["Bob-1", "bundled, label given"]
    command = ["--data", str(plain), "--constant-from", str(labelled), "--out", str(tmp_path / "b")]
    assert main(command) == 0
    assert list(rows_of(tmp_path / "b")) == ["bundled", *still]


def test_streamed_scores_are_the_offline_ones(plain: Path, tmp_path: Path) -> None:
    for name, more in (("offline", []), ("streamed", ["--stream"])):
        assert main(["--data", str(plain), "--out", str(tmp_path / name), *more]) == 0
    offline, streamed = (rows_of(tmp_path / k)["bundled"] for k in ("offline", "streamed"))
    for name in ("m_ld", "m_lvd", "f_ld", "f_lvd", "correlation", "gain"):
        assert streamed[name]["mean"] == pytest.approx(offline[name]["mean"], abs=1e-4)
    assert "chunks of 20 ms" in (tmp_path / "streamed" / "summary.md").read_text()


def test_without_a_training_side_there_is_no_best_constant_and_a_note(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(plain)]) == 0
    said = capsys.readouterr().out
    assert "No row for the best constant" in said and "| best constant" not in said


def test_latency_is_swept_and_drawn(plain: Path, tmp_path: Path) -> None:
    assert main(["--data", str(plain), "--out", str(tmp_path), "--latency"]) == 0
    with (tmp_path / "latency.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    at = {(int(x["hop"]), int(x["lookahead"])): x for x in lines}
    assert float(at[30, 0]["latency_ms"]) == 1000 and float(at[3, 3]["latency_ms"]) == 200
    assert float(at[3, 3]["m_ld"]) == pytest.approx(rows_of(tmp_path)["bundled"]["m_ld"]["mean"])
    assert float(at[3, 0]["m_ld"]) != float(at[3, 6]["m_ld"])
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert "Accuracy against latency" in (tmp_path / "summary.md").read_text()


def test_the_overlay_has_the_truth_in_blue_and_the_prediction_in_red(
    labelled: Path, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    assert main(["--data", str(labelled), "--out", str(tmp_path)]) == 0
    pixels = np.asarray(image.open(tmp_path / "overlay.png").convert("RGB")).astype(int)
    red, _, blue = np.moveaxis(pixels, -1, 0)
    assert ((blue - red) > 120).sum() > 500
    assert ((red - blue) > 120).sum() > 500


@pytest.mark.parametrize("asked", ["auto", "Bob-1"])
def test_the_video_has_both_faces_and_the_sound(labelled: Path, tmp_path: Path, asked: str) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    assert main(["--data", str(labelled), "--out", str(tmp_path), "--video", asked]) == 0
    (path,) = tmp_path.glob("*.mp4")
    assert asked in ("auto", path.stem)
    with av.open(str(path)) as file:
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in file.decode(video=0)]
    with av.open(str(path)) as file:
        sound = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
    assert len(pictures) == 31 and len(sound) >= 31 * 16_000 // 30
    assert np.abs(sound).max() > 0.05
    middle = pictures[0].shape[1] // 2
    tint = pictures[15][..., 2] - pictures[15][..., 0]
    assert (tint[:, :middle] > 60).sum() > 300 > (tint[:, :middle] < -60).sum()
    assert (tint[:, middle:] < -60).sum() > 300 > (tint[:, middle:] > 60).sum()


def test_table_1_marks_what_was_published_and_what_was_measured_here(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(plain), "--table", "1", "--label", "mine"]) == 0
    said = capsys.readouterr().out
    published = sum(len(rows) for rows in TABLE_1.values())
    assert said.count("| published |") == published == 11
    assert "| Cao et al. | MEAD | published | 2023 | 1.92 | 0.97 | 1.25 | 0.70 |" in said
    ours = re.search(r"\| mine \| plain \(validation\) \| measured here \|  \| ([\d.]+) \|", said)
    row = re.search(r"\| mine \| ([\d.]+) \[", said)
    assert ours and row and ours[1] == row[1]


def test_table_2_knows_the_variants_by_their_configuration(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(PRESETS["compact"], width=16, heads=2, feedforward=16, lstm_width=8,
                    bottleneck=4, kan_hidden=4, global_layers=1, content_layers=1)  # fmt: skip
    files: list[str] = []
    for name, config in {
        "one": replace(small, fusion=False),
        "two": replace(small, lstm=False),
        "three": replace(small, global_domain=False),
        "four": replace(small, head="mlp"),
        "five": small,
        "six": replace(small, kan_hidden=5),
    }.items():
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / "model.safetensors", KFusion(config), {})
        files.append(str(tmp_path / name / "model.safetensors"))
    assert main(["--data", str(plain), "--table", "2", "--checkpoint", *files]) == 0
    said = capsys.readouterr().out
    assert said.count("| published |") == len(TABLE_2) == 5
    measured = re.findall(r"\| ([^|]+) \| plain \(validation\) \| measured here", said)
    wanted = ["w/o KFusion", "w/o LSTM", "w/o Global", "repl MLP", "Proposed (five)"]
    assert measured == [*wanted, "Proposed (six)"]


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
        ["--hop", "4"],
        ["--hop", "30", "--lookahead", "1"],
        ["--label", "a", "b"],
        ["--checkpoint", "x", "y", "--label", "a", "a"],
        ["--video", "auto"],
        ["--legacy-batch", "0"],
    ],
)
def test_options_that_do_not_go_together_are_refused(plain: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--data", str(plain), *more])
    assert stopped.value.code == 2
