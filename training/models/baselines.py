"""Other networks from sound to landmarks, in our own code: systems of the paper's Table 1.

All have what KFusion has: the encoder of its Content Domain in the same preset (wav2vec2, or the
log-mel Transformer), the identity, the emotion, the same loop on the same windows. All answer
displacements in the same coordinates. :data:`KNOWN` says of each what is known of the original and
what was guessed. The figures of Table 1 are of the original systems and data, not of these.
"""

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import CROP_CENTRE, CROP_SCALE, FRAMES, ModelConfig
from kfusion.emotion import EMOTIONS
from kfusion.layers.blocks import Encoder
from kfusion.layers.encoder import LogMel, Stem, ToFrames
from kfusion.layers.wav2vec2 import Wav2Vec2
from kfusion.model import FACE

KNOWN: Final = {
    "eskimez": (
        "Eskimez, Maddox, Xu, Duan: Generating Talking Face Landmarks from Speech, 2018 (arXiv "
        "1803.09803), by the authors of the 2021 system in Table 1",
        "four LSTM layers, first and second temporal differences of the input, a delay for what is "
        "about to be said, the identity taken out of the landmarks",
        "256 channels, three frames of delay, the emotion beside the sound as in their later work; "
        "without the discriminators of 2021",
    ),
    "chen": (
        "Chen, Maddox, Duan, Xu: Hierarchical Cross-modal Talking Face Generation with Dynamic "
        "Pixel-wise Loss, CVPR 2019: its AT-net",
        "the identity's components through two layers of 256 and 512, three LSTM layers of 256, "
        "six principal components out",
        "the encoder's features instead of convolutions over MFCC, the emotion beside them",
    ),
    "ji": (
        "Ji et al.: Audio-Driven Emotional Video Portraits, CVPR 2021: its audio-to-landmark "
        "network",
        "a content of each frame and an emotion that does not depend on time, the identity's "
        "components through two layers of 256 and 512, three LSTM layers of 256, 16 principal "
        "components out",
        "the emotion is the mean of encoded features and the label; without the "
        "cross-reconstruction of one sentence said in two emotions, which few corpora have",
    ),
    "sinha": (
        "Sinha, Biswas, Yadav, Bhowmick: Emotion-Controllable Generalized Talking Face Generation, "
        "IJCAI 2022 (arXiv 2205.01155): its landmark network",
        "a graph convolutional network over the landmarks of the neutral face that is given the "
        "content of the speech and an independent emotion",
        "three graph convolutions of 64 channels over the lines of the face, an LSTM of 256 for "
        "the speech; without the network of textures",
    ),
    "cao": (
        "Cao, Trinh, Ho, Tran: SpeechSyncNet: Speech to Talking Landmark via the Fusion of Prior "
        "Frame Landmark and the Audio, VCIP 2023",
        "each frame from the sound and the landmarks of the frame before it (title and abstract)",
        "a recurrent cell of 256 for the fusion, from the face at rest on",
    ),
    "transformer": (
        "no publication",
        "a Transformer layer and a linear layer after the encoder",
        "",
    ),
}
"""Of each network: its source, what is known and is here, and what was guessed or left out."""

NOT_BUILT: Final = {
    "Wang et al.": "MEAD's own baseline moves the mouth by an LSTM over MFCC, as the rows of LSTMs "
    "do, and draws the upper face as pixels.",
    "Song et al.": "Predicts 3D expression coefficients and needs a fitted 3D face in every frame.",
    "Vougioukas et al.": "Predicts pixels; no landmarks are inside.",
}
"""Systems of Table 1 without a row of ours, and why."""


LINES: Final = (
    range(17), range(17, 22), range(22, 27), (*range(27, 31), 33), range(31, 36),
    (*range(36, 42), 36), (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
    (27, 21), (27, 22), (27, 39), (27, 42), (0, 17), (16, 26), (33, 51), (57, 8), (51, 62),
    (57, 66),
)  # fmt: skip
"""The face's contours in iBUG's order, and what links them: the edges of a graph."""


class SoundEncoder(nn.Module):
    """The encoder of KFusion's Content Domain: its input (B, ...) -> features (B, S, hidden)."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.mel = LogMel(c.mels) if c.content == "mel" else None
        self.wav2vec2 = Wav2Vec2(c.wav2vec2, c.freeze_wav2vec2) if c.content != "mel" else None
        if self.wav2vec2 is None:
            self.stem = Stem(c.mels, c.width)
            self.script = Encoder(c.content_layers, c.width, c.heads, c.feedforward, c.dropout)
            self.times, self.hidden = self.stem.times, c.width
        else:
            self.times, self.hidden = self.wav2vec2.times, self.wav2vec2.width

    def features(self, audio: Tensor, stretch: Tensor | None) -> Tensor:
        """What does not learn, to be cached: log-mel (B, 100, mels), or wav2vec2's features."""
        if self.wav2vec2 is not None:
            return self.wav2vec2(audio)
        assert self.mel is not None
        return self.mel(audio, stretch)

    def forward(self, features: Tensor) -> Tensor:
        return self.script(self.stem(features)) if self.wav2vec2 is None else features


class Baseline(nn.Module):
    """The common outside. Subclasses define :meth:`predict`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.sound = SoundEncoder(config)
        self.to_frames = ToFrames(self.sound.times, self.sound.hidden)

    @property
    def wav2vec2(self) -> Wav2Vec2 | None:
        return self.sound.wav2vec2

    def fit(self, targets: Tensor) -> None:
        """What is fitted to training targets (N, 136), in units, before the first step."""

    def features(
        self, audio: Tensor, stretch: Tensor | None = None, content: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`kfusion.model.KFusion.features`; only the content is used."""
        return audio, self.sound.features(audio, stretch) if content is None else content

    def decode(self, sound: Tensor, content: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        """As :meth:`kfusion.model.KFusion.decode`: (B, 30, 68, 2) in canonical pixels."""
        del sound
        v = (identity.flatten(1) - CROP_CENTRE) / CROP_SCALE  # (B, F)
        y = self.predict(self.to_frames(self.sound(content)), v, emotion)
        return y.float().unflatten(-1, (68, 2)) * self.config.unit_px

    def displacement(
        self, audio: Tensor, identity: Tensor, emotion: Tensor, stretch: Tensor | None = None
    ) -> Tensor:
        """As :meth:`kfusion.model.KFusion.displacement`: (B, 30, 68, 2) in canonical pixels."""
        return self.decode(*self.features(audio, stretch), identity, emotion)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        """Features of frames (B, 30, d), identity (B, F), emotion (B, 8) -> (B, 30, F) in units."""
        raise NotImplementedError


def at_frames(x: Tensor) -> Tensor:
    """(B, d) -> (B, 30, d), the same in all frames."""
    return x.unsqueeze(1).expand(-1, FRAMES, -1)


class Eskimez(Baseline):
    """An LSTM on features and their differences in time (:data:`KNOWN`)."""

    DELAY: Final = 3

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.lstm = nn.LSTM(
            3 * self.sound.hidden + len(EMOTIONS), 256, num_layers=4, batch_first=True
        )
        self.out = nn.Linear(256, FACE)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        first = torch.diff(x, dim=1, prepend=x[:, :1])
        second = torch.diff(first, dim=1, prepend=first[:, :1])
        steps = torch.cat([x, first, second, at_frames(e)], dim=-1)
        later = torch.cat([steps, steps[:, -1:].expand(-1, self.DELAY, -1)], dim=1)
        return self.out(self.lstm(later)[0][:, self.DELAY :])


class PrincipalComponents(Baseline):
    """A baseline whose outputs are principal components of the displacements, fitted to data."""

    components: Tensor
    middle: Tensor
    COUNT: int

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("components", torch.zeros(self.COUNT, FACE))
        self.register_buffer("middle", torch.zeros(FACE))
        self.face = nn.Sequential(
            nn.Linear(self.COUNT, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU()
        )
        self.out = nn.Linear(256, self.COUNT)

    def fit(self, targets: Tensor) -> None:
        self.middle.copy_(targets.mean(dim=0))
        _, spread, rows = torch.linalg.svd(targets - self.middle, full_matrices=False)
        scale = spread[: self.COUNT, None] / len(targets) ** 0.5
        self.components.copy_(rows[: self.COUNT] * scale)

    def identity(self, v: Tensor) -> Tensor:
        """(B, F) -> (B, 30, 512)."""
        return at_frames(self.face(v @ F.normalize(self.components, dim=1).T))

    def landmarks(self, h: Tensor) -> Tensor:
        """(B, 30, 256) -> (B, 30, F)."""
        return self.out(h) @ self.components + self.middle


class Chen(PrincipalComponents):
    """Features and the identity into an LSTM over principal components (:data:`KNOWN`)."""

    COUNT = 6

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.content = nn.Linear(self.sound.hidden + len(EMOTIONS), 256)
        self.lstm = nn.LSTM(256 + 512, 256, num_layers=3, batch_first=True)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        content = F.relu(self.content(torch.cat([x, at_frames(e)], dim=-1)))
        return self.landmarks(self.lstm(torch.cat([content, self.identity(v)], dim=-1))[0])


class Ji(PrincipalComponents):
    """Content of each frame, an emotion of the window, and the identity (:data:`KNOWN`)."""

    COUNT = 16

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.content = nn.Linear(self.sound.hidden, 256)
        self.mood = nn.Sequential(nn.Linear(self.sound.hidden, 128), nn.ReLU())
        self.emotion = nn.Linear(128 + len(EMOTIONS), 128)
        self.lstm = nn.LSTM(256 + 128 + 512, 256, num_layers=3, batch_first=True)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        mood = self.mood(x).mean(dim=1)  # (B, 128): no time is in it
        emotion = F.relu(self.emotion(torch.cat([mood, e], dim=-1)))
        content = F.relu(self.content(x))
        steps = torch.cat([content, at_frames(emotion), self.identity(v)], dim=-1)
        return self.landmarks(self.lstm(steps)[0])


class GraphConv(nn.Module):
    """X -> A X W, of (..., 68, channels) (Kipf and Welling 2017, arXiv 1609.02907)."""

    adjacency: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        links = torch.eye(68)
        for line in LINES:
            for a, b in pairwise(line):
                links[a, b] = links[b, a] = 1
        degree = links.sum(dim=1).rsqrt()
        self.register_buffer("adjacency", degree[:, None] * links * degree, persistent=False)
        self.mix = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.adjacency @ self.mix(x)


class Sinha(Baseline):
    """A graph of the face that is given the speech and the emotion (:data:`KNOWN`)."""

    CHANNELS: Final = 64

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        n = self.CHANNELS
        self.lstm = nn.LSTM(self.sound.hidden, 256, batch_first=True)
        self.speech = nn.Linear(256, n)
        self.emotion = nn.Linear(len(EMOTIONS), n)
        self.points = GraphConv(2, n)
        self.names = nn.Parameter(0.1 * torch.randn(68, n))  # which point of the face a node is
        self.graph = nn.ModuleList([GraphConv(3 * n, n), GraphConv(n, n)])
        self.out = nn.Linear(n, 2)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        face = self.points(v.unflatten(-1, (68, 2))) + self.names  # (B, 68, n)
        speech = self.speech(self.lstm(x)[0])  # (B, 30, n)
        shape = (*speech.shape[:2], 68, self.CHANNELS)
        h = torch.cat(
            [
                face.unsqueeze(1).expand(shape),
                speech.unsqueeze(2).expand(shape),
                self.emotion(e)[:, None, None].expand(shape),
            ],
            dim=-1,
        )
        for layer in self.graph:
            h = F.relu(layer(h)) + self.names
        return self.out(h).flatten(-2)


class Cao(Baseline):
    """Each frame from the sound and the frame before it (:data:`KNOWN`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = config.width
        self.prior = nn.Sequential(nn.Linear(FACE, d), nn.GELU())
        self.identity = nn.Linear(FACE + len(EMOTIONS), d)
        self.cell = nn.GRUCell(self.sound.hidden + 2 * d, 256)
        self.out = nn.Linear(256, FACE)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        speaker = self.identity(torch.cat([v, e], dim=-1))
        state = x.new_zeros(len(x), 256)
        frame = x.new_zeros(len(x), FACE)
        frames: list[Tensor] = []
        for c in range(FRAMES):
            state = self.cell(torch.cat([x[:, c], self.prior(frame), speaker], dim=-1), state)
            frame = self.out(state)
            frames.append(frame)
        return torch.stack(frames, dim=1)


class Transformer(Baseline):
    """A Transformer layer and a linear layer: what the paper's parts are to be better than."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        d = self.sound.hidden
        self.who = nn.Linear(FACE + len(EMOTIONS), d)
        self.encoder = Encoder(1, d, config.heads, config.feedforward, config.dropout)
        self.out = nn.Linear(d, FACE)

    def predict(self, x: Tensor, v: Tensor, e: Tensor) -> Tensor:
        speaker = self.who(torch.cat([v, e], dim=-1)).unsqueeze(1)
        return self.out(self.encoder(x + speaker))
