"""Phones in time: tables that come back as they went out, and words found in real speech."""

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kfusion.errors import DataError
from tests.conftest import DATA, folder_of
from training.corpus.clips import read_sound
from training.phones import (
    PHONE_INDEX,
    PHONES,
    UNKNOWN,
    Aligner,
    PhoneTrack,
    Unaligned,
    main,
    phone_spans,
    phones_at,
    read_phones,
    read_words,
)

HEADER = "clip\tstart_s\tend_s\tphone\n"
tracks = st.lists(
    st.tuples(st.integers(0, len(PHONES) - 1), st.integers(1, 40)), min_size=1, max_size=12
).map(lambda runs: np.concatenate([np.full(n, p, np.uint8) for p, n in runs]))


@given(track=tracks)
def test_spans_cover_a_track_and_each_is_another_phone(track: PhoneTrack) -> None:
    found = list(phone_spans(track))
    again = np.concatenate([np.full(b - a, PHONE_INDEX[name], np.uint8) for a, b, name in found])
    assert np.array_equal(again, track)
    assert all(a[2] != b[2] for a, b in pairwise(found))
    assert found[0][0] == 0 and all(a[1] == b[0] for a, b in pairwise(found))


@given(each=st.dictionaries(st.text("abc012-_", min_size=1), tracks, min_size=1, max_size=4))
def test_a_table_gives_back_the_tracks_that_it_was_written_from(
    tmp_path_factory: pytest.TempPathFactory, each: dict[str, PhoneTrack]
) -> None:
    lines = [f"{name}\t{start / 100:.2f}\t{end / 100:.2f}\t{phone}\n" for name in each
             for start, end, phone in phone_spans(each[name])]  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "phones.tsv"
    path.write_text(HEADER + "".join(reversed(lines)))
    found = read_phones(path)
    assert found.keys() == each.keys()
    assert all(np.array_equal(found[name], each[name]) for name in each)


def test_what_no_line_names_is_silence(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text(HEADER + "x\t0.02\t0.03\tB\nx\t0.05\t0.06\tAA\n")
    wanted = ["SIL", "SIL", "B", "SIL", "SIL", "AA"]
    assert [PHONES[p] for p in read_phones(tmp_path / "p.tsv")["x"]] == wanted


@given(track=tracks, share=st.floats(0, 0.9))
def test_a_phone_is_there_from_its_first_instant_to_its_last(
    track: PhoneTrack, share: float
) -> None:
    steps = np.arange(-3, len(track) + 3)
    wanted = [UNKNOWN] * 3 + track.tolist() + [UNKNOWN] * 3
    assert phones_at(track, (steps + share) / 100).tolist() == wanted


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            HEADER + "x\t0.00\t0.10\tB\nx\t0.10\t0.20\tAA1\n",
            "line 3: no table of phones \\(KeyError.'AA1'",
        ),
        ("clip\tstart_s\tphone\nx\t0.00\tB\n", "line 2: no table of phones \\(KeyError.'end_s'"),
        (HEADER + "x\tnow\t0.10\tB\n", "line 2: no table of phones \\(ValueError.*'now'"),
        (HEADER + "x\t-0.10\t0.10\tB\n", "from -0.10 to 0.10 s"),
        (HEADER + "x\t0\tnan\tB\n", "line 2: no table of phones \\(ValueError"),
        (HEADER + "x\t0\t1e9\tB\n", "from 0 to 1e9 s"),
        (None, "FileNotFoundError"),
    ],
)
def test_a_table_that_is_wrong_says_where_and_what_is_wanted(
    tmp_path: Path, text: str | None, what: str
) -> None:
    if text is not None:
        (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(DataError, match=rf"p\.tsv, .*{what}.*; wanted lines of clip, start_s"):
        read_phones(tmp_path / "p.tsv")


# Alignment


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    pytest.importorskip("pocketsphinx")
    return Aligner()


@pytest.fixture(scope="module")
def grid() -> tuple[Path, dict[str, str]]:
    """The clips of GRID's speaker 1, and the words of each."""
    folder, spoken = folder_of("grid_s1"), dict[str, list[str]]()
    with (DATA / "grid_s1_words.tsv").open(newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            if line["word"] not in ("sil", "sp") and (folder / f"{line['clip']}.flac").exists():
                spoken.setdefault(line["clip"], []).append(line["word"])
    return folder, {clip: " ".join(words) for clip, words in spoken.items()}


def test_a_word_that_no_dictionary_has_is_named(aligner: Aligner) -> None:
    sound = np.zeros(16_000, np.float32)
    with pytest.raises(Unaligned, match="words qqzzx, vrrk are not in the dictionary"):
        aligner.align(sound, "bin qqzzx VRRK")
    with pytest.raises(Unaligned, match="no words"):
        aligner.align(sound, " ")


@pytest.mark.data
def test_grids_phones_are_found_again(aligner: Aligner, grid: tuple[Path, dict[str, str]]) -> None:
    folder, words = grid
    expected = read_phones(DATA / "grid_s1_phones.tsv")
    for clip in sorted(words)[::150]:
        sound = read_sound(folder / f"{clip}.flac")
        track = aligner.align(sound, words[clip])
        assert abs(len(track) - len(sound) / 160) <= 1
        steps = min(len(track), len(expected[clip]))
        same = track[:steps] == expected[clip][:steps]
        assert same.mean() > 0.95, clip  # measured: all of them, with pocketsphinx 5.1.1


@pytest.mark.data
def test_a_track_is_of_its_sound_whatever_was_heard_before(
    aligner: Aligner, grid: tuple[Path, dict[str, str]]
) -> None:
    folder, words = grid
    clip = min(words)
    sound = read_sound(folder / f"{clip}.flac")
    alone = Aligner().align(sound, words[clip])
    hiss = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    for before, text in (
        (np.zeros(0, np.float32), "bin blue"),  # no sound at all
        (np.zeros(100, np.float32), "bin blue"),
        (np.zeros(16_000, np.float32), "bin blue"),
        (hiss, "bin blue"),
        (sound[:4800], "his father dying in miserable circumstances"),
    ):
        try:
            aligner.align(before, text)
        except Unaligned as error:
            assert "sound" in str(error)
        assert np.array_equal(aligner.align(sound, words[clip]), alone)


@pytest.mark.data
def test_words_that_nobody_wrote_down_are_recognised() -> None:
    pytest.importorskip("pocketsphinx")
    folder = folder_of("librispeech")
    expected = read_words(DATA / "librispeech.tsv")
    clip = "403-126855-0000"
    assert clip not in expected
    sound = read_sound(folder / f"{clip}.ogg")
    aligner = Aligner(recognise=True)
    words = aligner.recognise(sound)
    assert "chapter" in words.split()  # it reads out "the second chapter"
    track = aligner.align(sound, words)
    assert 0.4 < np.mean(track != PHONE_INDEX["SIL"]) < 1
    assert "CH" in {name for _, _, name in phone_spans(track)}
    assert aligner.recognise(sound[:50]) == ""
    assert aligner.recognise(sound) == words


@pytest.mark.data
def test_the_command_writes_what_the_aligner_finds(
    tmp_path: Path,
    aligner: Aligner,
    grid: tuple[Path, dict[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, words = grid
    one, two = sorted(words)[:2]
    for clip in (one, two):
        (tmp_path / f"{clip}.flac").write_bytes((folder / f"{clip}.flac").read_bytes())
    (tmp_path / "torn.flac").write_bytes(b"no sound")
    (tmp_path / "nameless.flac").write_bytes((folder / f"{one}.flac").read_bytes())
    table = "".join(f"{c}\t{w}\n" for c, w in ((one, words[one]), (two, words[two]), ("torn", "a")))
    (tmp_path / "words.tsv").write_text(f"clip\twords\n{table}")
    assert main(command(tmp_path, tmp_path / "words.tsv")) == 0
    output = capsys.readouterr()
    assert "phones.tsv: 2 clips, without phones: 1" in output.out
    assert "torn: " in output.err and "cannot be read" in output.err
    tracks = read_phones(tmp_path / "phones.tsv")
    assert tracks.keys() == {one, two}
    for clip, track in tracks.items():
        sound = read_sound(folder / f"{clip}.flac")
        assert np.array_equal(track, aligner.align(sound, words[clip]))


def command(source: Path, words: Path) -> list[str]:
    out = str(words.parent / "phones.tsv")
    return ["--source", str(source), "--words", str(words), "--out", out, "--processes", "1"]


def test_the_command_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(1600), 16_000)
    words = tmp_path / "words.tsv"
    words.write_text("clip\twords\ny\tbin blue\n")
    assert main(command(tmp_path, words)) == 2
    assert capsys.readouterr().err.startswith(f"training.phones: {tmp_path}: no sound that")
    assert not (tmp_path / "phones.tsv").exists()
    assert main(command(tmp_path / "nowhere", words)) == 2
    assert "nowhere" in capsys.readouterr().err
