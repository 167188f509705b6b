"""docs/training.md's commands for MEAD, CREMA-D, RAVDESS and GRID, as they stand there, on small
corpora of each one's layout and container: a drawn face, whose points its colours tell.
"""

import csv
import json
import shlex
from fractions import Fraction
from pathlib import Path
from typing import Final

import pytest

from tests.system.docs.documents import ROOT, blocks
from tests.training.corpora import talking, write_corpus
from tests.training.corpus.drawn_video import mark_tracker, write_clip, write_sound
from training import evaluate, prepare, train
from training.corpus.format import Corpus

SECONDS: Final = 1.1
SMALL: Final = ("--preset", "compact", "--steps", "2", "--batch", "2", "--threads", "1",
                "--device", "cpu")  # fmt: skip


def documented(*words: str) -> list[list[str]]:
    """The commands of the document's block of these modules and words, without ``python -m``."""
    for block in blocks(ROOT / "docs" / "training.md"):
        commands = [shlex.split(c)[2:] for c in block.commands()]
        if set(words) <= {w for command in commands for w in command}:
            return commands
    raise AssertionError(words)


def video(path: Path, number: int, fps: Fraction, sound: Path | None = None) -> None:
    """A clip that differs from those of other numbers; its sound apart where that is named."""
    click = 0.3 + 0.04 * number
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, fps=fps, seconds=SECONDS, click=click, audio_from=None if sound else 0.0)
    if sound:
        sound.parent.mkdir(parents=True, exist_ok=True)
        write_sound(sound, SECONDS, click)


def mead(root: Path) -> None:
    neutral, happy = "neutral/level_1/001", "happy/level_3/002"
    takes = (("M003", neutral), ("M003", happy), ("M030", neutral), ("W009", neutral))
    for n, (speaker, take) in enumerate(takes):
        audio = root / speaker / "audio" / f"{take}.m4a"
        video(root / speaker / "video/front" / f"{take}.mp4", n, Fraction(30), audio)
    video(root / "W009/video/left_30/neutral/level_1/001.mp4", 9, Fraction(30))


def crema_d(root: Path) -> None:
    for n, name in enumerate(("1001_DFA_NEU_XX", "1001_IEO_HAP_HI", "1002_DFA_SAD_XX")):
        audio = root / "AudioWAV" / f"{name}.wav"
        video(root / "VideoFlash" / f"{name}.flv", n, Fraction(30000, 1001))
        audio.parent.mkdir(exist_ok=True)
        write_sound(audio, SECONDS, 0.3)


def ravdess(root: Path) -> None:
    for n, (emotion, actor) in enumerate((("01", "01"), ("03", "01"), ("05", "02"))):
        name = f"01-01-{emotion}-01-01-01-{actor}"
        video(root / f"Actor_{actor}" / f"{name}.mp4", n, Fraction(30000, 1001))
    video(root / "Actor_02" / "02-01-05-01-01-01-02.mp4", 5, Fraction(30))  # the same without sound


def grid(root: Path) -> None:
    for n, name in enumerate(("s1/bbaf2n", "s1/lgbm5a", "s2/pwij3p")):
        video(root / f"{name}.mpg", n, Fraction(25))


MADE: Final = {
    "MEAD": (
        mead,
        {("M003", "neutral", 1), ("M003", "happy", 3), ("M030", "neutral", 1),
         ("W009", "neutral", 1)},
    ),
    "CREMA-D": (
        crema_d,
        {("1001", "neutral", None), ("1001", "happy", 3), ("1002", "sad", None)},
    ),
    "RAVDESS": (
        ravdess,
        {("Actor_01", "neutral", 1), ("Actor_01", "happy", 1), ("Actor_02", "angry", 1)},
    ),
    "GRID": (grid, {("s1", None, None), ("s2", None, None)}),
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None) -> Path:
    """The working directory of the commands; they train a small network."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("source", MADE)
def test_the_three_commands_go_from_the_folder_to_the_scores(
    small: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, labels = MADE[source]
    make(small / source)
    first, second, third = documented("training.prepare", "training.evaluate", "--source", source)
    assert (first[0], second[0], third[0]) == (
        "training.prepare", "training.train", "training.evaluate",
    )  # fmt: skip
    assert prepare.run(prepare.arguments(first[1:]), mark_tracker) == 0
    name = source.lower()
    corpus = Corpus(small / "corpora" / name)
    assert (corpus.header.layout, corpus.header.split_by, corpus.skipped) == (name, "speaker", [])
    assert {(e.speaker, e.emotion, e.level) for e in corpus.entries} == labels

    train.train(train.arguments([*second[1:], *SMALL]))
    capsys.readouterr()
    assert evaluate.main(third[1:]) == 0
    printed = capsys.readouterr().out
    assert ("| KFusion (the paper) |" in printed) == ("--table" in third)
    with (small / "scores" / name / "scores.csv").open(newline="") as file:
        scored = {row["speaker"] for row in csv.DictReader(file)}
    assert scored == {e.speaker for e in corpus.entries if e.split == "validation"}


def test_crema_d_is_a_test_set_of_a_network_of_mead(small: Path) -> None:
    ((_, *words),) = documented("training.evaluate", "--constant-from")
    makers = (("mead", ("M003", "M030"), 0), ("crema-d", ("1001", "1002"), 2))
    for name, speakers, seed in makers:
        clips = [talking(s, seed + k, 1.2, speaker=s) for k, s in enumerate(speakers)]
        write_corpus(small / "corpora" / name, clips)
    train.train(train.arguments(["--data", "corpora/mead", "--out", "runs/mead", *SMALL]))
    assert evaluate.main(words) == 0
    summary = json.loads((small / words[words.index("--out") + 1] / "summary.json").read_text())
    assert (summary["about"]["split"], summary["about"]["clips"]) == ("all", 2)
    assert any("best constant" in row for row in summary["rows"])
