"""wav2vec2's features on disk: they are those of the windows, and what is not is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from kfusion.errors import DataError
from kfusion.layers.wav2vec2 import Wav2Vec2
from tests.kfusion.test_model import PAPER
from tests.training.corpora import windows_of
from training.corpus.format import Corpus
from training.data import features
from training.data.features import StoredFeatures
from training.data.windows import Windows


@pytest.fixture
def encoder() -> Wav2Vec2:
    torch.manual_seed(5)
    return Wav2Vec2(PAPER.wav2vec2, frozen=True)


@pytest.fixture
def windows(corpus: Corpus) -> Windows:
    return windows_of(corpus, start_every=4)


@pytest.fixture
def stored(tmp_path: Path, encoder: Wav2Vec2, windows: Windows) -> StoredFeatures:
    stored = StoredFeatures(tmp_path, encoder, 4)
    stored.fill(windows.clips, encoder)
    windows.features = stored
    return stored


def files(stored: StoredFeatures) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(stored.folder.iterdir())}


def test_a_window_has_the_features_of_its_own_sound(
    stored: StoredFeatures, windows: Windows, encoder: Wav2Vec2
) -> None:
    batch = windows.batch(16, 0)
    assert batch.features.dtype == torch.float16 and batch.features.shape == (16, 49, 24)
    expected = encoder(batch.audio)
    torch.testing.assert_close(batch.features.float(), expected, atol=2e-3, rtol=1e-3)
    assert (expected[0] - expected[1]).abs().max() > 0.1


def test_windows_begin_at_every_so_manieth_frame_and_reach_the_last(windows: Windows) -> None:
    firsts = {round(window.times[0] * 30) for window in map(windows.__getitem__, range(200))}
    assert firsts == set(range(0, 46, 4))  # of 75 frames


def test_what_is_there_is_not_computed_again(
    stored: StoredFeatures, windows: Windows, encoder: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, *others = before = files(stored)
    path.unlink()
    calls: list[int] = []
    encode = Wav2Vec2.forward

    def forward(self: Wav2Vec2, audio: torch.Tensor) -> torch.Tensor:
        calls.append(len(audio))
        return encode(self, audio)

    monkeypatch.setattr(Wav2Vec2, "forward", forward)
    StoredFeatures(stored.folder.parent, encoder, 4).fill(windows.clips, encoder)
    assert calls == [12] and len(others) == 3
    for file in (after := files(stored)):
        assert np.array_equal(load(after[file])["features"], load(before[file])["features"])


def test_several_processes_share_the_work_and_none_returns_before_it_is_done(
    tmp_path: Path, windows: Windows, encoder: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def note(path: Path, data: bytes) -> None:
        begun.append(path.name)
        path.write_bytes(data)

    monkeypatch.setattr(features, "write_whole", note)
    for rank in (0, 1):
        stored = StoredFeatures(tmp_path / str(rank), encoder, 4)
        stored.fill(windows.clips, encoder, rank=rank, world=2)
        assert len(files(stored)) == 4
    assert begun[:4] == [*begun[6:], *begun[4:6]]  # the second begins in the middle


def test_a_long_clip_has_several_files(
    tmp_path: Path, windows: Windows, encoder: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = StoredFeatures(tmp_path, encoder, 4)
    whole.fill(windows.clips, encoder)
    monkeypatch.setattr(features, "PART", 5)
    parted = StoredFeatures(tmp_path / "parted", encoder, 4)
    parted.fill(windows.clips[:1], encoder)
    assert len(files(parted)) == 3
    for first in range(0, 46, 4):
        with monkeypatch.context() as patch:
            patch.setattr(features, "PART", 1000)
            one = whole.read(windows.clips[0], first)
        np.testing.assert_allclose(parted.read(windows.clips[0], first), one, atol=2e-3)


def test_another_encoder_or_spacing_has_another_folder(
    stored: StoredFeatures, encoder: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = stored.folder.parent
    folders = {stored.folder, StoredFeatures(root, encoder, 2).folder}
    assert StoredFeatures(root, encoder, 4).folder == stored.folder
    with monkeypatch.context() as patch:
        patch.setattr(features, "FEATURES_VERSION", 2)
        folders.add(StoredFeatures(root, encoder, 4).folder)
    encoder.model.config.layer_norm_eps = 1e-3
    folders.add(StoredFeatures(root, encoder, 4).folder)
    with torch.no_grad():
        encoder.model.encoder.layer_norm.bias[0] += 1
    folders.add(StoredFeatures(root, encoder, 4).folder)
    assert len(folders) == 5


@pytest.mark.parametrize("how", ["flipped", "cut", "another clip's", "junk", "gone"])
def test_a_damaged_or_foreign_file_is_named(
    stored: StoredFeatures, windows: Windows, encoder: Wav2Vec2, how: str
) -> None:
    part = stored.parts(windows.clips[0])[0]
    data = bytearray(part.path.read_bytes())
    if how == "flipped":
        data[-1000] ^= 1
    data = {
        "cut": data[:-10],
        "another clip's": stored.parts(windows.clips[1])[0].path.read_bytes(),
        "junk": b"junk",
    }.get(how, data)
    part.path.unlink() if how == "gone" else part.path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{part.path.name}: no features as they were written"):
        for first in range(0, 46, 4):
            stored.read(windows.clips[0], first)
    if how in ("cut", "another clip's", "junk"):
        with pytest.raises(DataError, match=r"remove it, and training\.train writes it again"):
            stored.fill(windows.clips, encoder)


def test_a_disk_without_room_is_told_before_anything_is_computed(
    tmp_path: Path, windows: Windows, encoder: Wav2Vec2, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)

    def disk_usage(_: Path) -> object:
        return usage

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    stored = StoredFeatures(tmp_path, encoder, 4)
    with pytest.raises(DataError, match=r"48 windows take 0\.0 GB and .* larger --start-every"):
        stored.fill(windows.clips, encoder)
    assert not files(stored)
