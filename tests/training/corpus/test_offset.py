"""How late a clip's sound is: found where it is shifted, told, and never acted on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.landmarks import INNER_LOWER, NEUTRAL
from tests.conftest import folder_of, voice
from tests.training.corpora import talking, write_corpus
from tests.training.tracks import write_track
from training.corpus.clips import Clip, read_track
from training.corpus.format import Corpus
from training.corpus.offset import AudioOffset, audio_offset
from training.prepare import main, plan, prepare, summary


def babbling(name: str, seed: int, seconds: float = 4.0) -> Clip:
    """Noise whose loudness comes and goes without a rhythm, and a mouth that opens with it."""
    rng = np.random.default_rng(seed)
    count = round(30 * seconds)
    opening = np.convolve(rng.random(count) ** 4, np.hanning(7)[1:-1], "same")
    points = np.repeat(NEUTRAL[None], count, axis=0)
    points[:, INNER_LOWER, 1] += 10 * opening[:, None]
    at = np.arange(round(16_000 * seconds)) / 16_000
    loudness = np.interp(at, np.arange(count) / 30, opening)
    sound = 0.1 * loudness * rng.normal(size=len(at))
    return Clip(name, sound.clip(-1, 1).astype(np.float32), points, "someone")


def later(audio: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """The sound so many seconds later, or earlier, in the same length."""
    shift = round(seconds * 16_000)
    moved = np.zeros_like(audio)
    moved[max(0, shift) : len(audio) + min(0, shift)] = audio[
        max(0, -shift) : len(audio) - max(0, shift)
    ]
    return moved


def offset(clip: Clip, seconds: float = 0.0) -> AudioOffset:
    found = audio_offset(later(clip.audio, seconds), clip.points)
    assert found is not None
    return found


@pytest.mark.parametrize("shift", [-0.25, -5 / 30, -0.05, 0.0, 0.04, 5 / 30, 0.3])
def test_a_shift_of_the_sound_is_found_to_a_few_milliseconds(shift: float) -> None:
    clip = babbling("a", 1)
    found = offset(clip, shift)
    assert found.ms - offset(clip).ms == pytest.approx(1000 * shift, abs=8)
    assert found.trusted and found.correlation > 0.5 and found.large == (abs(shift) > 0.1)


def test_lips_that_know_nothing_of_the_sound_are_not_trusted() -> None:
    rng = np.random.default_rng(2)
    trusted = 0
    for seed in range(20):
        points = NEUTRAL + rng.normal(size=(150, 68, 2))
        found = audio_offset(voice(5.0, seed=seed), points)
        trusted += found is not None and found.trusted
    assert trusted <= 1


def test_nothing_is_said_where_nothing_moves_or_is_heard() -> None:
    clip = talking("a", 1, 2.0)
    still = np.repeat(NEUTRAL[None], 60, axis=0)
    assert audio_offset(clip.audio, still) is None
    assert audio_offset(np.zeros_like(clip.audio), clip.points) is None
    assert audio_offset(clip.audio, clip.points[:29]) is None
    assert audio_offset(clip.audio[:4000], clip.points) is not None  # sound that ends too early


@pytest.mark.data
@pytest.mark.parametrize("shift", [-5, 0, 5])
def test_of_real_speech_shifts_are_found_and_few_are_wrong(shift: int) -> None:
    """Every twelfth sentence of one man, and five talks of twenty to thirty seconds."""
    paths = sorted(folder_of("grid_s1").glob("*.npz"))[::12]
    talks = sorted(folder_of("speakers").glob("*.npz"))
    for few, least in ((paths, 0.3), (talks, 1.0)):
        found = [offset(read_track(p), shift / 30) for p in few]
        right = [o for o in found if o.trusted and abs(o.ms - 1000 * shift / 30) < 70]
        assert len(right) >= least * len(found)
        assert sum(o.trusted for o in found) - len(right) <= 0.02 * len(found)
        assert sum(o.large for o in right) == (len(right) if shift else 0)


def test_it_is_kept_summed_up_and_warned_of_and_the_sound_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "ann", tmp_path / "out"
    clips = [babbling(f"c{k}", k) for k in range(5)]
    clips[3] = replace(clips[3], audio=later(clips[3].audio, 0.2))
    for clip in clips:
        write_track(source, clip)
    assert main(["--source", str(source), "--out", str(out), "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    corpus = Corpus(out)
    offsets = [e.offset for e in corpus.entries]
    assert [o is not None and o.large for o in offsets] == [False, False, False, True, False]
    assert "the sound is later than the lips by " in printed and "by the 5 clips" in printed
    assert (
        f"warning: in 1 clips sound and lips seem more than 100 ms apart, see {out}/offsets.csv; "
        "nothing was shifted"
    ) in printed
    head, line = (out / "offsets.csv").read_text().splitlines()
    assert head == "clip,sound_late_ms,correlation"
    name, late, r = line.split(",")
    assert name == "c3" and 170 < float(late) < 230 and float(r) > 0.5
    kept = corpus.clip(corpus.entries[3]).audio
    np.testing.assert_allclose(kept, clips[3].audio, atol=2 / 32768)

    write_track(source, replace(clips[3], audio=clips[0].audio))
    prepare(plan(source), tmp_path / "again", None)
    assert not (tmp_path / "again" / "offsets.csv").exists()


def test_lines_without_it_are_read(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "c", [talking("a", 0)], {"a": "train"})
    assert b"offset" not in (folder / "clips.jsonl").read_bytes()
    corpus = Corpus(folder)
    assert corpus.entries[0].offset is None
    assert "sound is later" not in summary(corpus)
