"""wav2vec2's features of the windows that training sees, computed once and kept on disk::

    FOLDER/ENCODER-every6/AUDIO-0000.safetensors

ENCODER stands for the weights, the architecture and :data:`~kfusion.layers.wav2vec2.
FEATURES_VERSION`, AUDIO is the sha256 of a clip's samples. A file has up to 1000 windows, which
begin at every sixth frame: ``features``, float16 (N, S, d), and ``crc32`` (N,) of each. Files are
written whole or not at all, and mapped into memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from kfusion.config import FRAMES
from kfusion.errors import DataError
from kfusion.layers.wav2vec2 import FEATURES_VERSION, Wav2Vec2, weights_sha256
from kfusion.system import write_whole
from training.data.augment import OF_SOUND
from training.data.source_clip import SourceClip

FORMAT: Final = "kfusion-features-1"
PART: Final = 1000
"""Windows of a file, 75 MB of wav2vec2-base's features."""
ROWS: Final = 32
"""Windows that are computed at once."""


@dataclass(frozen=True)
class Part:
    """The windows from ``first`` (counted in windows) on of a clip, at most :data:`PART`."""

    clip: SourceClip
    first: int
    count: int
    path: Path
    metadata: dict[str, str]


class StoredFeatures:
    """The features of a frozen encoder in a folder; windows begin at every ``every``-th frame."""

    def __init__(self, folder: Path, encoder: Wav2Vec2, every: int) -> None:
        self.every, self.shape = every, (len(encoder.times), encoder.width)
        self.encoder = encoder_key(encoder)
        self.folder = folder / f"{self.encoder[:16]}-every{every}"
        self._audio: dict[tuple[Path, int], str] = {}

    def fill(
        self, clips: Sequence[SourceClip], encoder: Wav2Vec2, *, rank: int = 0, world: int = 1
    ) -> None:
        """Computes what the folder lacks of the clips' windows.

        Of ``world`` processes each begins elsewhere and passes over what another wrote. Raises
        :class:`~kfusion.errors.DataError` for a damaged or foreign file and for a full disk.
        """
        parts = {part.path: part for clip in clips for part in self.parts(clip)}
        missing = [part for path, part in parts.items() if not self._written(path, part)]
        count = sum(part.count for part in missing)
        size = 2 * count * self.shape[0] * self.shape[1]
        begin = len(missing) * rank // world
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < size:
                raise DataError(
                    f"{self.folder}: {count} windows take {size / 1e9:.1f} GB and "
                    f"{free / 1e9:.1f} GB are free; wanted another --features or a larger "
                    f"--start-every than {self.every}"
                )
            bar = tqdm(total=count, desc="features", unit="window", disable=rank > 0 or not count)
            with bar:
                for part in missing[begin:] + missing[:begin]:
                    if not part.path.exists():
                        write_whole(part.path, self._computed(part, encoder))
                    bar.update(part.count)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be written ({error}); what is there is whole"
            ) from None

    def read(self, clip: SourceClip, frame: int) -> NDArray[np.float16]:
        """The features (S, d) of the window that begins at ``frame`` of the clip.

        Raises :class:`~kfusion.errors.DataError` where they are not there, or damaged.
        """
        number, row = divmod(frame // self.every, PART)
        part = self.parts(clip)[number]
        with self._opened(part) as file:
            features: NDArray[np.float16] = file.get_slice("features")[row]
            expected = int(file.get_slice("crc32")[row])
        if zlib.crc32(features.tobytes()) != expected:
            raise damaged(part.path, f"window {row} has another checksum")
        return features

    def parts(self, clip: SourceClip) -> list[Part]:
        """The files of a clip."""
        digest = self._digest(clip)
        count = max(0, clip.entry.points[1] - FRAMES) // self.every + 1
        return [
            Part(
                clip, first, min(PART, count - first),
                self.folder / f"{digest}-{first // PART:04d}.safetensors",
                {"format": FORMAT, "encoder": self.encoder, "audio": digest,
                 "every": str(self.every), "first": str(first)},
            )
            for first in range(0, count, PART)
        ]  # fmt: skip

    def _digest(self, clip: SourceClip) -> str:
        first, count = clip.entry.audio
        key = clip.corpus.folder, first
        if key not in self._audio:
            samples = clip.corpus.audio[first : first + count]
            self._audio[key] = hashlib.sha256(samples.tobytes()).hexdigest()
        return self._audio[key]

    def _written(self, path: Path, part: Part) -> bool:
        if not path.exists():
            return False
        with self._opened(part) as file:
            found = file.get_slice("features").get_shape()
        if found != [part.count, *self.shape]:
            raise damaged(path, f"features are {found}, wanted {[part.count, *self.shape]}")
        return True

    @contextmanager
    def _opened(self, part: Part) -> Generator[Any]:
        """A part's file, mapped into memory."""
        try:
            with safe_open(part.path, framework="np") as file:
                if (found := file.metadata()) != part.metadata:
                    raise damaged(part.path, f"is {found}, wanted {part.metadata}")
                yield file
        except (SafetensorError, OSError, IndexError) as error:
            raise damaged(part.path, str(error)) from None

    @torch.inference_mode()
    def _computed(self, part: Part, encoder: Wav2Vec2) -> bytes:
        device = next(encoder.parameters()).device
        features = np.zeros((part.count, *self.shape), np.float16)
        for begin in range(0, part.count, ROWS):
            rows = range(begin, min(begin + ROWS, part.count))
            sound = [part.clip.sound((part.first + k) * self.every, 1.0) for k in rows]
            computed = encoder(torch.from_numpy(np.stack(sound)).to(device))
            features[rows.start : rows.stop] = computed.half().cpu().numpy()
        if not np.isfinite(features).all():
            raise DataError(f"{part.clip.entry.name}: wav2vec2's features of it are not finite")
        sums = np.array([zlib.crc32(row.tobytes()) for row in features])
        return save({"features": features, "crc32": sums}, part.metadata)


def encoder_key(encoder: Wav2Vec2) -> str:
    """The sha256 of all that an encoder's features depend on besides the sound."""
    architecture: dict[str, Any] = encoder.model.config.to_diff_dict()
    for name in ("transformers_version", "_name_or_path"):
        architecture.pop(name, None)
    weights = weights_sha256(encoder.model.state_dict())
    text = json.dumps([FEATURES_VERSION, architecture, weights], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_options(augment: Sequence[str], *, finetune: bool) -> None:
    """Raises DataError for options under which stored features would be those of something else."""
    changing = [name for text in augment if (name := text.partition("=")[0]) in OF_SOUND]
    if changing:
        raise DataError(
            f"--augment {' '.join(changing)} changes the sound that --features has stored features "
            "of; wanted one of the two options"
        )
    if finetune:
        raise DataError(
            "--finetune changes the wav2vec2 that --features has stored features of; "
            "wanted one of the two options"
        )


def damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: no features as they were written ({why}); "
        "remove it, and training.train writes it again"
    )
