from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kfusion.landmarks import lip_gap
from kfusion.runtime import EXPORTED, WEIGHTS, Animator, SyntheticEngine
from kfusion.system import file_sha256
from tests.conftest import voice
from tests.training.tracks import small_data
from training.corpus.clips import Clip
from training.scores.metrics import correlation
from training.trial import __main__ as trial
from training.trial import accuracy, robustness, silence, unseen_voices
from training.trial.accuracy import mead_emotion
from training.trial.model import TrialModel
from training.trial.report import Check, Section
from training.trial.unseen_voices import (
    loudness,
    pauses,
    percentile_range,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def model(data: Path) -> TrialModel:
    return TrialModel(Animator(SyntheticEngine()), data)


def checks(section: Section) -> dict[str, Check]:
    return {c.name: c for c in section.checks}


def test_a_figure_holds_within_its_bounds_and_an_undefined_one_never() -> None:
    assert Check("", 0.5, high=0.5).holds
    assert not Check("", 0.51, high=0.5).holds
    assert Check("", 1.0, 0.8, 1.2).holds
    assert not Check("", 0.7, 0.8, 1.2).holds
    assert not Check("", float("nan"), low=0).holds


def test_the_model_that_made_the_truth_is_exact(data: Path) -> None:
    model = TrialModel(Animator(SyntheticEngine()), data)
    for name in ("grid_s1", "grid_others", "grid_more", "mead_speech", "speakers"):
        model.sets[name] = [
            Clip(c.name, c.audio, model.animate(c.audio, c.identity), rest=c.identity)
            for c in model.clips(name)
        ]
    found = checks(accuracy.measure(model))
    assert found["grid_s1: M-LD ratio"].value < 1e-3
    assert found["speakers: least correlation"].value > 0.999
    assert found["mead_speech: gain"].value == pytest.approx(1, abs=1e-3)
    assert all(c.holds for name, c in found.items() if "closure" not in name)


def test_accuracy_has_a_row_for_each_set_and_look_ahead(model: TrialModel) -> None:
    section = accuracy.measure(model)
    table, faces, of_clips = section.tables
    assert [(r[0], r[2]) for r in table.rows] == [
        (name, k)
        for name in ("grid_s1", "grid_others", "mead_speech", "speakers", "grid_more")
        for k in (0, 2, 3, 6)
    ]
    line = table.records[2]
    assert checks(section)["grid_s1: lip correlation"].value == line["lip correlation"]
    assert line["least correlation"] <= line["lip correlation"]
    assert not [name for name in checks(section) if name.startswith("grid_more")]
    still = {r["face"]: r for r in faces.records if r["set"] == "grid_s1"}
    assert list(still) == ["copy identity", "best constant", "still at own mean", "floor"]
    # The mean of mouths that are open now and then is another face than one that stays shut.
    assert abs(still["best constant"]["M-LD ratio"] - 1) > 0.01
    assert still["still at own mean"]["centred"] == pytest.approx(1)
    assert still["floor"]["centred"] < 0.5
    least, most = map(float, of_clips.records[0]["lip correlation"].split(" to "))
    assert least == pytest.approx(line["least correlation"], abs=1e-3) and least <= most
    assert "development sets: choices were made on them" in section.about


def test_clips_of_mead_are_scored_with_their_own_emotion_too(model: TrialModel) -> None:
    (clip,) = model.clips("mead_speech")[:1]
    assert mead_emotion(clip) == {}
    acted = replace(clip, name="M003_level_2_happy_007")
    assert mead_emotion(acted) == {"happy": 2 / 3}
    assert mead_emotion(replace(clip, name="M003_level_1_neutral_001")) == {}
    # A face that smiles is nearer to the same smile where the model gets the emotion.
    frames = model.animate(clip.audio, clip.identity, mead_emotion(acted))
    model.sets["mead_speech"] = [Clip(acted.name, clip.audio, frames, rest=clip.identity)]
    rows = {(r["set"], r["look-ahead"]): r for r in accuracy.measure(model).tables[0].records}
    with_emotion = rows["mead_speech, its emotion given", 3]
    assert with_emotion["M-LD"] < 1e-3 < rows["mead_speech", 3]["M-LD"]
    assert not [name for name, _ in rows if name.startswith("speakers, ")]


def test_a_mouth_of_loudness_closes_in_silence_and_opens_to_noise(model: TrialModel) -> None:
    found = checks(silence.measure(model))
    assert found["after a cut in mid-word, max"].holds
    assert found["digital silence, max"].value == 0
    assert not found["white noise, max"].holds
    assert not found["music, max"].holds


def test_perturbed_voices_are_scored_against_the_same_truth(model: TrialModel) -> None:
    section = robustness.measure(model)
    rows = {r["voice"]: r for r in section.tables[0].records}
    plain = rows["as it is"]["lip correlation"]
    for check in section.checks:
        row = rows[check.name.removesuffix(": fall")]
        assert check.value == row["fall"] == pytest.approx(plain - row["lip correlation"])
    # Loudness alone opens this mouth: speed moves it in time with the truth, babble opens it.
    assert abs(rows["speed 0.8"]["fall"]) < 0.05
    assert rows["babble at 10 dB"]["fall"] > 0


def test_pauses_begin_200_ms_into_what_stays_quiet_for_300() -> None:
    sound = np.concatenate([voice(1.0, seed=1) + 0.1, np.zeros(16_000), voice(1.0, seed=2) + 0.1,
                            np.zeros(3200)]).astype(np.float32)  # fmt: skip
    (pause,) = pauses(sound, 96)  # the last 200 ms are too short
    assert pause.start in (36, 37)
    assert pause.stop in (59, 60)


def test_each_set_weighs_the_same_in_the_range() -> None:
    low, high = percentile_range([[0.0], [1.0] * 1000])
    assert low == pytest.approx(0.0)
    assert high == pytest.approx(1.0)
    assert percentile_range([[k / 1000 for k in range(1001)]]) == pytest.approx(
        (0.05, 0.95), abs=2e-3
    )


def test_voices_are_judged_by_their_loudness_and_their_pauses(model: TrialModel) -> None:
    section = unseen_voices.measure(model)
    found = checks(section)
    # It opens with the first sound, and the last frame of a pause sees some of that.
    assert found["the same but for a pause's last 100 ms"].value == 0
    assert found["gap in pauses, max"].value > 0
    row = section.tables[1].records[0]
    frames = model.animate(voice(2.0, seed=5))
    assert row["clip"] == "someone"
    assert row["pauses"] >= 2
    loud = np.maximum(loudness(voice(2.0, seed=5), 60), -40)
    assert correlation(lip_gap(frames), loud) > 0.5
    assert row["correlation"] > 0.5


def test_a_trial_prints_its_sections_and_writes_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(EXPORTED), "--data", str(data), "--out", str(tmp_path / "trial"),
             "--only", "accuracy", "silence"]  # fmt: skip
    assert trial.main(given) == 0  # though hardly a bound holds here
    printed = capsys.readouterr().out
    text = (tmp_path / "trial" / "trial.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## accuracy", "## silence", "## In short",
    ]  # fmt: skip
    holding, failing = text.count("| holds |"), text.count("| **does not hold** |")
    assert f"{holding} of {holding + failing} bounds hold; " in text
    assert text.rstrip() == printed.replace("\n\n\n", "\n\n").rstrip()
    assert file_sha256(WEIGHTS) in text


def test_what_is_missing_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(data), "--only", "silence"]
    assert trial.main([str(tmp_path / "none.safetensors"), *given]) == 2
    assert "none.safetensors" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert trial.main([str(WEIGHTS), "--data", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert trial.main([str(WEIGHTS), "--data", str(tmp_path / "empty"), "--only", "emotion"]) == 2
    assert "kfusion-trial:" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        trial.main([str(WEIGHTS), "--data", str(data), "--only", "taste"])
