"""Phones to displacements: the teacher that labels sound without a picture.

A small convolutional network learns, from tracked clips whose phones are known, how one speaker's
face moves with phones. Given any voice's phones it predicts how that speaker would have moved.
Phones that GRID's clips lack are replaced by those that look most like them.

    python -m training.teacher --data CORPUS --out teacher.safetensors
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from kfusion.config import FPS
from kfusion.errors import DataError, run_command
from kfusion.landmarks import Identity, align, to_canonical
from training.corpus.clips import Clip, at_times
from training.corpus.format import Corpus, open_corpora
from training.models.losses import LossWeights, landmark_loss
from training.phones import (
    PHONE_INDEX,
    PHONES,
    STEP_S,
    UNKNOWN,
    PhoneTrack,
    phone_spans,
    phones_at,
)
from training.scores.scoring import score_predictor

UNIT_PX: Final = 4.0
WEIGHTS: Final = LossWeights(mouth=4, velocity=4, gap=0.5)
VISEME_GROUPS: Final = ("PBM", "FV", "TDN", "KG", "SZ", "CH JH SH ZH", "TH DH")
"""Phones that look alike, one letter each or apart by spaces: in training each replaces the others
at random."""
SUBSTITUTES: Final = {
    "ER": ("R",),
    "NG": ("G",),
    "OY": ("AO", "IY"),
    "SH": ("CH",),
    "UH": ("UW",),
    "ZH": ("JH",),
}
"""Phones that GRID's fifty-one words lack, and the phones that replace them, in halves where two
are named."""


class Teacher(nn.Module):
    """Phones (B, T) of every 10 ms -> displacements (B, C, 68, 2) from ``rest`` (68, 2), both in
    canonical pixels, at the frames' ``times`` (C,) in steps.
    """

    rest: Tensor

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        self.phone = nn.Embedding(len(PHONES), 64)
        self.early = nn.ModuleList(
            [nn.Conv1d(64, width // 2, 5, padding=2), nn.Conv1d(width // 2, width, 5, padding=2)]
        )
        self.late = nn.ModuleList([nn.Conv1d(width, width, 7, padding=3) for _ in range(3)])
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(width, 136)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("rest", torch.zeros(68, 2))

    def forward(self, phones: Tensor, times: Tensor) -> Tensor:
        x = self.phone(phones).transpose(1, 2)
        for layer in self.early:
            x = F.gelu(layer(x))
        # The mean of the steps around a frame's time, by a linear kernel of +-30 ms.
        steps = torch.arange(x.shape[-1], device=x.device)
        near = (1 - (steps[:, None] - times[None]).abs() / 3).clamp(min=0)
        x = x @ (near / near.sum(0, keepdim=True).clamp(min=1e-6))
        for layer in self.late:
            x = x + F.gelu(layer(self.drop(x)))
        return UNIT_PX * self.out(x.transpose(1, 2)).unflatten(-1, (68, 2))


@dataclass(frozen=True)
class _TrainingClip:
    """A clip's phones, displacements (T, 68, 2) and face at rest (68, 2), canonical."""

    phones: PhoneTrack
    target: NDArray[np.float64]
    rest: NDArray[np.float64]


def _training_clips(corpus: Corpus) -> Iterator[_TrainingClip]:
    for clip in corpus.clips("train"):
        if clip.phones is not None:
            rest = to_canonical(clip.identity).apply(clip.identity)
            yield _TrainingClip(clip.phones, align(clip.points, rest) - rest, rest)


def _batch(
    clips: Sequence[_TrainingClip], rng: np.random.Generator, rows: int, same_viseme: Tensor
) -> tuple[Tensor, Tensor]:
    """Phones and displacements of 2 s at some speed, half with other phones of their viseme."""
    steps, frames = 200, 60
    tracks, targets = [], []
    for k in rng.integers(len(clips), size=rows):
        clip, speed = clips[k], float(rng.uniform(0.75, 1.3))
        seconds = min(len(clip.phones) * STEP_S, len(clip.target) / FPS)
        start = rng.uniform(-0.3, max(0.0, seconds - 2 * speed) + 0.3)
        at = start + speed * STEP_S * (np.arange(steps) + 0.5)
        track = phones_at(clip.phones, at)
        track[track == UNKNOWN] = 0
        tracks.append(track)
        times = start + speed * np.arange(frames) / FPS
        targets.append(at_times(clip.target, np.arange(len(clip.target)) / FPS, times))
    phones = torch.from_numpy(np.stack(tracks)).long()
    draws = torch.from_numpy(rng.random((rows, len(PHONES))))
    replacement = (same_viseme.unsqueeze(0) * draws.unsqueeze(1)).argmax(-1)
    replaced = replacement.gather(1, phones)
    phones = torch.where(torch.from_numpy(rng.random((rows, 1)) < 0.5), replaced, phones)
    return phones, torch.from_numpy(np.stack(targets)).float()


def _same_viseme() -> Tensor:
    """(40, 40) bool: row p marks the phones that may replace p, itself among them."""
    table = torch.eye(len(PHONES), dtype=torch.bool)
    for group in VISEME_GROUPS:
        names = group.split() if " " in group else list(group)
        for a in names:
            for b in names:
                table[PHONE_INDEX[a], PHONE_INDEX[b]] = True
    return table


def frame_times(frames: int) -> Tensor:
    """The steps at which frames of 30 fps lie, (frames,)."""
    return torch.arange(frames) * (1 / FPS / STEP_S) - 0.5


def train(corpora: Sequence[Corpus], steps: int = 1500, seed: int = 1) -> Teacher:
    """A teacher from the clips of ``corpora`` whose phones are known."""
    clips = [clip for corpus in corpora for clip in _training_clips(corpus)]
    if not clips:
        raise DataError("no train clip has phones; wanted a corpus prepared with --phones")
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    teacher, same_viseme = Teacher(), _same_viseme()
    teacher.rest.copy_(torch.from_numpy(np.mean([clip.rest for clip in clips], axis=0)))
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in tqdm(range(steps), unit="step", mininterval=5):
        phones, target = _batch(clips, rng, 32, same_viseme)
        predicted = teacher(phones, frame_times(target.shape[1]))
        mask = torch.ones(target.shape[:2])
        total, _ = landmark_loss(predicted / UNIT_PX, target / UNIT_PX, mask, WEIGHTS)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return teacher.eval()


@torch.inference_mode()
def predict(teacher: Teacher, track: PhoneTrack) -> NDArray[np.float32]:
    """Phones [steps] -> canonical displacements (frames, 68, 2), one each whole 1/30 s."""
    frames = len(track) * FPS // 100
    if not frames:
        return np.zeros((0, 68, 2), np.float32)
    phones = torch.from_numpy(with_substitutes(track)).long()[None]
    return teacher(phones, frame_times(frames))[0].numpy()


def animate(teacher: Teacher, clip: Clip) -> NDArray[np.float32]:
    """A clip whose phones are known -> its frames on its own identity, in its pixels."""
    assert clip.phones is not None
    return Identity.from_points(clip.identity).place(predict(teacher, clip.phones))


def with_substitutes(track: PhoneTrack) -> PhoneTrack:
    """The track with :data:`SUBSTITUTES` in the place of the phones that these name."""
    replaced = track.copy()
    for start, end, name in phone_spans(track):
        substitutes = SUBSTITUTES.get(name, (name,))
        for k, other in enumerate(substitutes):
            replaced[start + (end - start) * k // len(substitutes) : end] = PHONE_INDEX[other]
    return replaced


def save(teacher: Teacher, path: Path) -> None:
    """Weights and the face that they move, as safetensors."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(teacher.state_dict(), path)


def load(path: Path) -> Teacher:
    """Raises :class:`~kfusion.errors.DataError` for a file that is no teacher."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    teacher = Teacher()
    try:
        teacher.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: is no teacher ({error})") from None
    return teacher.eval()


def run(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    corpora = open_corpora(options.data)
    teacher = train(corpora, options.steps, options.seed)
    save(teacher, options.out)
    held_out = [(c, e) for c in corpora for e in c.entries if e.split == "validation"]
    clips = [c.clip(e) for c, e in held_out if e.phones is not None]
    if not clips:
        print(f"{options.out}: no clip with phones is held out to measure it on")
        return
    row = score_predictor(clips, partial(animate, teacher)).row
    print(
        f"{options.out}: on {len(clips)} clips held out M-LD {row['m_ld']:.3f} px, M-LVD "
        f"{row['m_lvd']:.3f}, lip correlation {row['correlation']:.3f}, gain {row['gain']:.2f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="corpora with phones")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(argv)
    return run_command("training.teacher", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
