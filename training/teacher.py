"""A face that speaks known phones: what sound without a picture is labelled with.

A small convolutional network learns, from tracked clips whose phones are known, how one speaker's
face moves with phones. Given any voice's phones it then says how that speaker would
have moved. Phones that GRID's clips lack borrow their nearest visible neighbour's mouth.

    python -m training.teacher --data CORPUS --out teacher.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from kfusion.config import FPS
from kfusion.errors import DataError, run_command
from kfusion.landmarks import Identity, align, to_canonical
from training import phones
from training.corpus.clips import Clip, at_times
from training.corpus.format import Corpus, open_corpora
from training.models.losses import LossWeights, landmark_loss
from training.phones import INDEX, PHONES, STEP_S, Track
from training.scores.scoring import score_predictor

UNIT_PX: Final = 4.0
WEIGHTS: Final = LossWeights(mouth=4, velocity=4, gap=0.5)
ALIKE: Final = ("PBM", "FV", "TDN", "KG", "SZ", "CH JH SH ZH", "TH DH")
"""Phones that look alike, one letter each or apart by spaces: each stands in for the others while
the teacher learns."""
NEAREST: Final = {
    "ER": ("R",),
    "NG": ("G",),
    "OY": ("AO", "IY"),
    "SH": ("CH",),
    "UH": ("UW",),
    "ZH": ("JH",),
}
"""Phones that GRID's fifty-one words lack, and what they look like, in halves where two are
named."""


class Teacher(nn.Module):
    """Phones (B, T) of every 10 ms -> displacements (B, C, 68, 2), canonical
    pixels, at the frames' ``times`` (C,) in steps. ``rest`` (68, 2) is the face that it knows,
    canonical.
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

    def forward(self, spoken: Tensor, times: Tensor) -> Tensor:
        x = self.phone(spoken).transpose(1, 2)
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
class _Known:
    """A clip's phones, displacements (T, 68, 2) and face at rest (68, 2), canonical."""

    spoken: Track
    target: NDArray[np.float64]
    rest: NDArray[np.float64]


def _known(corpus: Corpus, split: str) -> list[_Known]:
    found: list[_Known] = []
    for e in corpus.entries:
        if e.phones is not None and e.split == split:
            clip = corpus.clip(e)
            assert clip.phones is not None
            rest = to_canonical(clip.identity).apply(clip.identity)
            moved = align(clip.points, rest) - rest
            found.append(_Known(clip.phones, moved, rest))
    return found


def _batch(known: Sequence[_Known], rng: np.random.Generator, rows: int, alike: Tensor) -> Any:
    """Two-second pieces, each at its own speed, phones among those that look alike."""
    steps, frames = 200, 60
    spoken, target = [], []
    for k in rng.integers(len(known), size=rows):
        clip, speed = known[k], float(rng.uniform(0.75, 1.3))
        seconds = min(len(clip.spoken) * STEP_S, len(clip.target) / FPS)
        start = rng.uniform(-0.3, max(0.0, seconds - 2 * speed) + 0.3)
        at = start + speed * STEP_S * (np.arange(steps) + 0.5)
        heard = phones.at(clip.spoken, at)
        heard[heard == phones.UNKNOWN] = 0
        spoken.append(heard)
        times = start + speed * np.arange(frames) / FPS
        target.append(at_times(clip.target, np.arange(len(clip.target)) / FPS, times))
    words = torch.from_numpy(np.stack(spoken)).long()
    other = torch.from_numpy(rng.random((rows, len(PHONES))))
    # One of those alike for each phone of a row, half of the time.
    choice = (alike.unsqueeze(0) * other.unsqueeze(1)).argmax(-1)
    swapped = choice.gather(1, words)
    words = torch.where(torch.from_numpy(rng.random((rows, 1)) < 0.5), swapped, words)
    return words, torch.from_numpy(np.stack(target)).float()


def _alike() -> Tensor:
    """(40, 40) bool: row p marks the phones that may stand in for p, itself among them."""
    table = torch.eye(len(PHONES), dtype=torch.bool)
    for group in ALIKE:
        names = group.split() if " " in group else list(group)
        for a in names:
            for b in names:
                table[INDEX[a], INDEX[b]] = True
    return table


def frame_times(frames: int) -> Tensor:
    """The steps at which frames of 30 fps lie, (frames,)."""
    return torch.arange(frames) * (1 / FPS / STEP_S) - 0.5


def train(corpora: Sequence[Corpus], steps: int = 1500, seed: int = 1) -> Teacher:
    """A teacher from the clips of ``corpora`` whose phones are known."""
    known = [k for c in corpora for k in _known(c, "train")]
    if not known:
        raise DataError("no train clip has phones; wanted a corpus prepared with --phones")
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    teacher, alike = Teacher(), _alike()
    teacher.rest.copy_(torch.from_numpy(np.mean([k.rest for k in known], axis=0)))
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in tqdm(range(steps), unit="step", mininterval=5):
        spoken, target = _batch(known, rng, 32, alike)
        predicted = teacher(spoken, frame_times(target.shape[1]))
        mask = torch.ones(target.shape[:2])
        total, _ = landmark_loss(predicted / UNIT_PX, target / UNIT_PX, mask, WEIGHTS)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return teacher.eval()


@torch.inference_mode()
def speak(teacher: Teacher, spoken: Track) -> NDArray[np.float32]:
    """A clip's phones [steps] -> displacements (frames, 68, 2), canonical; a frame for each whole
    1/30 s.
    """
    frames = len(spoken) * FPS // 100
    if not frames:
        return np.zeros((0, 68, 2), np.float32)
    visible = torch.from_numpy(borrowed(spoken)).long()[None]
    return teacher(visible, frame_times(frames))[0].numpy()


def frames_of(teacher: Teacher, clip: Clip) -> NDArray[np.float32]:
    """A clip whose phones are known -> its frames on its own identity, in its pixels."""
    assert clip.phones is not None
    return Identity.from_points(clip.identity).place(speak(teacher, clip.phones))


def borrowed(spoken: Track) -> Track:
    """The track with :data:`NEAREST` in the place of what it names."""
    visible = spoken.copy()
    for start, end, name in phones.spans(spoken):
        nearest = NEAREST.get(name, (name,))
        for k, other in enumerate(nearest):
            visible[start + (end - start) * k // len(nearest) : end] = INDEX[other]
    return visible


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


def run(a: argparse.Namespace) -> None:
    if a.threads:
        torch.set_num_threads(a.threads)
    corpora = open_corpora(a.data)
    teacher = train(corpora, a.steps, a.seed)
    save(teacher, a.out)
    held_out = [(c, e) for c in corpora for e in c.entries if e.split == "validation"]
    clips = [c.clip(e) for c, e in held_out if e.phones is not None]
    if not clips:
        print(f"{a.out}: no clip with phones is held out to measure it on")
        return
    row = score_predictor(clips, partial(frames_of, teacher)).row
    print(
        f"{a.out}: on {len(clips)} clips held out M-LD {row['m_ld']:.3f} px, M-LVD "
        f"{row['m_lvd']:.3f}, lip correlation {row['correlation']:.3f}, gain {row['gain']:.2f}"
    )


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", type=Path, nargs="+", required=True, help="corpora with phones")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args()
    return run_command("training.teacher", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
