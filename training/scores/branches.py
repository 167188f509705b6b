"""What each branch of a KFusion adds: the figures of the network with that branch held still.

A branch is held at its mean over all evaluated windows, so that it tells nothing of a window's
sound, face or emotion, and the layers after it get a value of the kind that they were trained on.
A branch whose figures do not change so is one that the network does not use.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from kfusion.config import SAMPLE_RATE
from kfusion.emotion import vector
from kfusion.errors import DataError
from kfusion.landmarks import Identity
from kfusion.model import KFusion
from kfusion.stream import Stitcher, Window, windows_of
from training.corpus.clips import Clip
from training.scores.metrics import clip_metrics
from training.scores.scoring import request_of
from training.scores.tables import json_value, markdown_table

FIGURES: Final = {"m_ld": "M-LD", "shape": "shape", "correlation": "lip correlation"}
"""Of :attr:`~training.scores.metrics.ClipMetrics.by_name`, with their titles."""
GROUPS: Final = {"Global Domain": ("gb", "gb_m"), "Content Domain": ("ct", "f", "m")}
WHOLE: Final = "nothing"
BATCH: Final = 16
Branches = dict[str, Tensor]


@dataclass(frozen=True)
class BranchShare:
    """``held``: the branch or domain that was held at its mean, or :data:`WHOLE`; ``figures``:
    means over the clips; ``change``: how far they are above those of the whole network.
    """

    held: str
    figures: dict[str, float]
    change: dict[str, float]

    @property
    def json(self) -> dict[str, Any]:
        return {"held": self.held, **{k: json_value(v) for k, v in self.figures.items()}}


def branch_shares(
    network: KFusion,
    clips: Callable[[], Iterable[Clip]],
    hop: int,
    lookahead: int,
    *,
    labelled: bool = False,
) -> list[BranchShare]:
    """The whole network's figures, then those with each branch and each domain held.

    ``clips`` is called twice: for the branches' means, and to score. ``labelled``: the network is
    given a clip's emotion and the speaker's neutral face, where they are known; otherwise the
    emotion is neutral and the identity the clip's own.

    Raises :class:`~kfusion.errors.DataError` without a clip.
    """
    means = _means(network, clips(), hop, lookahead, labelled)
    held: dict[str, tuple[str, ...]] = {WHOLE: (), **{name: (name,) for name in means}}
    for domain, names in GROUPS.items():
        present = tuple(name for name in names if name in means)
        if len(present) > 1:
            held[f"{domain} ({', '.join(present)})"] = present
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in held}
    for clip in _shown(clips(), "branches"):
        passed = list(_passes(network, clip, hop, lookahead, labelled))
        for name, still in held.items():
            values = {branch: means[branch] for branch in still}
            predicted = _predicted(
                network, passed, values, Stitcher(hop, lookahead), clip, labelled
            )
            metrics = clip_metrics(predicted, clip.points, clip.identity).by_name
            scores[name].append({k: metrics[k] for k in FIGURES})
    figures = {name: _mean_figures(rows) for name, rows in scores.items()}
    whole = figures[WHOLE]
    return [
        BranchShare(name, row, {k: row[k] - whole[k] for k in row}) for name, row in figures.items()
    ]


def mean_shares(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[BranchShare]:
    """Means over the seeds of a network, whose shares were kept as :attr:`BranchShare.json`."""
    rows: list[BranchShare] = []
    for of_seeds in zip(*seeds, strict=True):
        figures = {k: float(np.mean([np.nan if s[k] is None else s[k] for s in of_seeds]))
                   for k in FIGURES}  # fmt: skip
        whole = rows[0].figures if rows else figures
        change = {k: figures[k] - whole[k] for k in FIGURES}
        rows.append(BranchShare(of_seeds[0]["held"], figures, change))
    return rows


def branch_table(networks: Mapping[str, Sequence[BranchShare]]) -> str:
    """Markdown: each network's figures, then how far each held branch changes them."""
    rows = [
        [name, share.held]
        + [
            f"{share.figures[k]:.3f}" if share.held == WHOLE else f"{share.change[k]:+.3f}"
            for k in FIGURES
        ]
        for name, shares in networks.items()
        for share in shares
    ]
    return markdown_table(["", "held at its mean", *FIGURES.values()], rows, text=2)


@dataclass(frozen=True)
class _Pass:
    """Some windows of a clip, their branches, and the identity v (B, 136)."""

    windows: list[Window]
    branches: Branches
    v: Tensor


def _passes(
    network: KFusion, clip: Clip, hop: int, lookahead: int, labelled: bool
) -> Iterator[_Pass]:
    device = next(network.parameters()).device
    sound, identity, weights = request_of(clip, labelled=labelled)
    emotion = torch.from_numpy(np.asarray(vector(weights), np.float32))
    canonical = Identity.from_points(identity).canonical
    face = torch.from_numpy(np.asarray(canonical, np.float32))
    windows = list(windows_of(np.clip(sound, -1, 1), SAMPLE_RATE, hop, lookahead))
    network.eval()
    for begin in range(0, len(windows), BATCH):
        some = windows[begin : begin + BATCH]
        audio = torch.from_numpy(np.stack([window.audio for window in some])).to(device)
        v = network.face_features(face.to(device).expand(len(some), -1, -1))
        with torch.inference_mode():
            given = emotion.to(device).expand(len(some), -1)
            branches, _ = network.branches(*network.features(audio), v, given)
        yield _Pass(some, branches, v)


def _means(
    network: KFusion, clips: Iterable[Clip], hop: int, lookahead: int, labelled: bool
) -> Branches:
    """Each branch's mean over all windows, (C or S, F or M)."""
    sums: Branches = {}
    count = 0
    for clip in _shown(clips, "means of branches"):
        for passed in _passes(network, clip, hop, lookahead, labelled):
            count += len(passed.windows)
            for name, branch in passed.branches.items():
                sums[name] = sums.get(name, 0) + branch.double().sum(0)
    if not count:
        raise DataError("no clips to score; wanted at least one")
    return {name: (total / count).float() for name, total in sums.items()}


def _predicted(
    network: KFusion,
    passes: Sequence[_Pass],
    held: Mapping[str, Tensor],
    stitcher: Stitcher,
    clip: Clip,
    labelled: bool,
) -> NDArray[np.float32]:
    """The clip's frames (T, 68, 2) with some branches at the values ``held``."""
    face = Identity.from_points(request_of(clip, labelled=labelled)[1])
    frames = list[NDArray[Any]]()
    for passed in passes:
        values = {name: value.expand_as(passed.branches[name]) for name, value in held.items()}
        with torch.inference_mode():
            y, _ = network.fuse({**passed.branches, **values}, passed.v)
        outputs = (y * network.config.unit_px).float().cpu().numpy()
        for window, output in zip(passed.windows, outputs, strict=True):
            frames.append(face.place(stitcher.push(window, output)))
    return np.concatenate(frames)


def _mean_figures(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the clips in which a figure is defined; nan where it is defined in none."""
    means: dict[str, float] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        defined = values[np.isfinite(values)]
        means[name] = float(defined.mean()) if len(defined) else float("nan")
    return means


def _shown(clips: Iterable[Clip], what: str) -> Iterable[Clip]:
    return tqdm(clips, desc=what, unit="clip", disable=None)
