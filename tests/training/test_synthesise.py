"""Sentences spoken by flite, where it is."""

import shutil
from pathlib import Path

import pytest

from kfusion.errors import DataError
from training.corpus.clips import read_sound
from training.phones import read_words
from training.synthesise import main, run_flite, synthesise

SENTENCES = ["the quick brown fox jumps over the lazy dog", "bin blue at f two now"]


@pytest.fixture
def flite() -> None:
    if shutil.which("flite") is None:
        pytest.skip("needs flite, Debian's package of that name")


@pytest.mark.usefixtures("flite")
def test_every_sentence_is_spoken_and_in_the_table(tmp_path: Path) -> None:
    table = synthesise(SENTENCES, tmp_path / "a", 2)
    words = read_words(table)
    assert list(words.values()) == SENTENCES
    for name in words:
        sound = read_sound(table.parent / f"{name}.wav")
        assert 1.0 < len(sound) / 16_000 < 6.0 and abs(sound).max() > 0.1
    again = synthesise(SENTENCES, tmp_path / "b", 1)
    for name in words:  # the same numbers, the same voices and paces
        assert (again.parent / f"{name}.wav").read_bytes() == (
            table.parent / f"{name}.wav"
        ).read_bytes()


@pytest.mark.usefixtures("flite")
def test_pace_is_the_durations_factor(tmp_path: Path) -> None:
    for name, stretch in (("own", 1.0), ("quick", 0.75)):
        run_flite(SENTENCES[0], "slt", stretch, tmp_path / f"{name}.wav")
    own, quick = (len(read_sound(tmp_path / f"{n}.wav")) for n in ("own", "quick"))
    assert abs(quick / own - 0.75) < 0.05
    with pytest.raises(DataError, match="flite said nothing"):
        run_flite(SENTENCES[0], "slt", 1.0, tmp_path / "no" / "folder.wav")


def test_without_flite_it_says_where_to_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    table = tmp_path / "words.tsv"
    table.write_text("clip\twords\na\tgood morning\n")
    assert main(["--words", str(table), "--out", str(tmp_path / "out")]) == 2
    assert "flite is not installed" in capsys.readouterr().err
