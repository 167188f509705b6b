"""Other networks from sound to landmarks, in our own code: systems of the paper's Table 1.

Each says its source, what of it is here and what was left out. All see what KFusion sees (one
second of log-mel, the identity, the emotion), answer displacements in the same coordinates, and
are trained by the same loop on the same windows. The figures of Table 1 are of the original
systems and data, not of these.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import CROP_CENTRE, CROP_SCALE, FPS, FRAMES, SAMPLE_RATE, ModelConfig
from kfusion.emotion import EMOTIONS
from kfusion.layers.blocks import Encoder
from kfusion.layers.encoder import LogMel, Stem, ToFrames
from kfusion.layers.mel import FRAME, STRIDE
from kfusion.model import FACE


class Baseline(nn.Module):
    """The common outside. Subclasses define :meth:`predict`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.mels)

    def fit(self, targets: Tensor) -> None:
        """What is fitted to training targets (N, 136), in units, before the first step."""

    def displacement(
        self, audio: Tensor, identity: Tensor, emotion: Tensor, stretch: Tensor | None = None
    ) -> Tensor:
        """As :meth:`kfusion.model.KFusion.displacement`: (B, 30, 68, 2) in canonical pixels."""
        v = (identity.flatten(1) - CROP_CENTRE) / CROP_SCALE  # (B, F)
        y = self.predict(self.mel(audio, stretch), v, emotion)
        return y.float().unflatten(-1, (68, 2)) * self.config.unit_px

    def predict(self, mel: Tensor, v: Tensor, e: Tensor) -> Tensor:
        """Log-mel (B, 100, mels), identity (B, F), emotion (B, 8) -> (B, 30, F) in units."""
        raise NotImplementedError


def around_frames(mel: Tensor, count: int, delay: int = 0) -> Tensor:
    """The ``count`` steps of (B, 100, mels) around each video frame -> (B, 30, count, mels).

    Frame c is at c / 30 s; with ``delay`` the steps are those around c + delay.
    """
    seconds = (torch.arange(FRAMES) + delay) / FPS
    centre = (seconds * SAMPLE_RATE + FRAME / 2) / STRIDE - 1
    first = (centre - (count - 1) / 2).round().long()
    at = first[:, None] + torch.arange(count)
    inside = ((at >= 0) & (at < mel.shape[1])).to(mel)
    taken = mel[:, at.clamp(0, mel.shape[1] - 1)]
    return taken * inside.to(mel.device)[:, :, None]


class Eskimez(Baseline):
    """LSTM on differences of log-mel.

    Eskimez, Maddox, Xu, Duan: Generating Talking Face Landmarks from Speech, LVA/ICA 2018
    (arXiv 1803.09803), the audio-to-landmark network of the authors whose 2021 system stands in
    Table 1. Here: first and second temporal differences of log-mel, four LSTM layers of 256, a
    delay of three frames for what is about to be said, the identity taken out of the landmarks,
    the emotion beside the sound as in their later work. Left out: the image generator and
    discriminators of 2021, and the adversarial noise training of 2020.
    """

    DELAY: Final = 3

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        inputs = 2 * config.mels + len(EMOTIONS)
        self.lstm = nn.LSTM(inputs, 256, num_layers=4, batch_first=True)
        self.out = nn.Linear(256, FACE)

    def predict(self, mel: Tensor, v: Tensor, e: Tensor) -> Tensor:
        steps = around_frames(mel, 4, self.DELAY).mean(dim=2)  # (B, 30, mels), 40 ms each
        first = torch.diff(steps, dim=1, prepend=steps[:, :1])
        second = torch.diff(first, dim=1, prepend=first[:, :1])
        emotion = e.unsqueeze(1).expand(-1, FRAMES, -1)
        return self.out(self.lstm(torch.cat([first, second, emotion], dim=-1))[0])


class Chen(Baseline):
    """AT-net of ATVG: MFCC and the identity's landmarks into an LSTM over principal components.

    Chen, Maddox, Duan, Xu: Hierarchical Cross-modal Talking Face Generation with Dynamic
    Pixel-wise Loss, CVPR 2019. Here: 0.28 s of 12 MFCC around each frame through convolutions,
    the identity's components through two layers, three LSTM layers of 256, six principal
    components out (as in the released network), fitted to the training windows. Left out: VG-net,
    which draws the picture.
    """

    components: Tensor

    COMPONENTS: Final = 6
    STEPS: Final = 28
    MFCC: Final = 12

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("components", torch.zeros(self.COMPONENTS, FACE))
        self.register_buffer("middle", torch.zeros(FACE))
        k = torch.arange(config.mels)
        n = torch.arange(1, self.MFCC + 1)
        dct = torch.cos(torch.pi / config.mels * (k[None] + 0.5) * n[:, None])  # DCT-II
        self.register_buffer("dct", dct * (2 / config.mels) ** 0.5, persistent=False)
        self.sound = nn.Sequential(
            nn.Conv2d(1, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * 7 * 3, 256),
            nn.ReLU(),
        )
        self.face = nn.Sequential(
            nn.Linear(self.COMPONENTS, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU()
        )
        self.lstm = nn.LSTM(256 + 512, 256, num_layers=3, batch_first=True)
        self.out = nn.Linear(256, self.COMPONENTS)

    middle: Tensor
    dct: Tensor

    def fit(self, targets: Tensor) -> None:
        self.middle.copy_(targets.mean(dim=0))
        _, spread, rows = torch.linalg.svd(targets - self.middle, full_matrices=False)
        scale = spread[: self.COMPONENTS, None] / len(targets) ** 0.5
        self.components.copy_(rows[: self.COMPONENTS] * scale)

    def predict(self, mel: Tensor, v: Tensor, e: Tensor) -> Tensor:
        mfcc = around_frames(mel @ self.dct.T, self.STEPS)  # (B, 30, 28, 12)
        sound = self.sound(mfcc.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, FRAMES))
        face = self.face(v @ F.normalize(self.components, dim=1).T)
        both = torch.cat([sound, face.unsqueeze(1).expand(-1, FRAMES, -1)], dim=-1)
        return self.out(self.lstm(both)[0]) @ self.components + self.middle


class Cao(Baseline):
    """SpeechSyncNet: each frame from the sound and the frame before it.

    Cao, Trinh, Ho, Tran: SpeechSyncNet: Speech to Talking Landmark via the Fusion of Prior Frame
    Landmark and the Audio, VCIP 2023. Here: a Transformer encoder over log-mel, the previous
    landmarks embedded and fused with the frame's sound and the identity in a recurrent cell,
    frame by frame from the face at rest, in training as in use. The paper itself was not at hand
    beyond its title and abstract: sizes are ours. Left out: whatever it adds to that.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = config.width
        self.stem = Stem(config.mels, d)
        self.encoder = Encoder(2, d, config.heads, config.feedforward, config.dropout)
        self.to_frames = ToFrames(self.stem.times, d)
        self.prior = nn.Sequential(nn.Linear(FACE, d), nn.GELU())
        self.identity = nn.Linear(FACE + len(EMOTIONS), d)
        self.cell = nn.GRUCell(3 * d, 256)
        self.out = nn.Linear(256, FACE)

    def predict(self, mel: Tensor, v: Tensor, e: Tensor) -> Tensor:
        sound = self.to_frames(self.encoder(self.stem(mel)))  # (B, 30, d)
        speaker = self.identity(torch.cat([v, e], dim=-1))
        state = sound.new_zeros(len(sound), 256)
        frame = sound.new_zeros(len(sound), FACE)
        frames: list[Tensor] = []
        for c in range(FRAMES):
            state = self.cell(torch.cat([sound[:, c], self.prior(frame), speaker], dim=-1), state)
            frame = self.out(state)
            frames.append(frame)
        return torch.stack(frames, dim=1)


class Transformer(Baseline):
    """A log-mel Transformer with a linear head: what the paper's parts are to be better than."""

    LAYERS: Final = 4

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = config.width
        self.stem = Stem(config.mels, d)
        self.who = nn.Linear(FACE + len(EMOTIONS), d)
        self.encoder = Encoder(self.LAYERS, d, config.heads, config.feedforward, config.dropout)
        self.to_frames = ToFrames(self.stem.times, d)
        self.out = nn.Linear(d, FACE)

    def predict(self, mel: Tensor, v: Tensor, e: Tensor) -> Tensor:
        speaker = self.who(torch.cat([v, e], dim=-1)).unsqueeze(1)
        return self.out(self.to_frames(self.encoder(self.stem(mel) + speaker)))
