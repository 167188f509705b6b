"""KFusion of Dual-Domain, in the paper's order (arXiv 2409.05330, section 3).

docs/model.md lists what differs from the paper in each preset, why, and which test covers it.

Shapes: B batch, C = 30 video frames, S = 50 encoder steps, d width, F = 136 = 68 x 2
coordinates, M = 40 of the mouth (points 48-67).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import CROP_CENTRE, CROP_SCALE, FRAMES, ModelConfig
from kfusion.emotion import EMOTIONS
from kfusion.errors import CheckpointError
from kfusion.layers.blocks import (
    Bottleneck,
    Encoder,
    LandmarkDecoder,
    PlaneBottleneck,
    StepDecoder,
    TimeConv,
    transformer_encoder,
)
from kfusion.layers.encoder import LogMel, RawStem, Stem, ToFrames
from kfusion.layers.kan import KAN
from kfusion.layers.wav2vec2 import Wav2Vec2, around_pretrained

FACE = 136  # F
MOUTH = 40  # M
REST = FACE - MOUTH  # features below the mouth's


def mouth_of(face: Tensor, c: ModelConfig) -> Tensor:
    """v_m = v[:, :, L_m] of eq. 4: features of a face (..., F) -> of its mouth (..., M)."""
    if c.concatenate == "time":
        return face.unflatten(-1, (2, -1))[..., 48:].flatten(-2)
    return face[..., REST:]


def _encoder(layers: int, heads: int, c: ModelConfig) -> nn.Module:
    kind = transformer_encoder if c.concatenate == "time" else Encoder
    return kind(layers, c.width, heads, c.feedforward, c.dropout)


def _decoder(features: int, times: Tensor, heads: int, c: ModelConfig) -> nn.Module:
    """D of eq. 5-6: v (B, features) and a memory (B, C or S, d) -> (B, C or S, features)."""
    sizes = (c.decoder_layers, c.width, heads, c.feedforward, c.dropout)
    if c.concatenate == "time":
        return StepDecoder(features, len(times), *sizes)
    return LandmarkDecoder(features, *sizes)


def _conv(times: Tensor, c: ModelConfig) -> nn.Module:
    """Conv of eq. 5-6 (B, S, d) -> (B, C, d); a :class:`StepDecoder` has its own."""
    return nn.Identity() if c.concatenate == "time" else ToFrames(times, c.width)


class GlobalDomain(nn.Module):
    """Section 3.2: sound to landmarks directly, -> gb (B, C, F), gb_m (B, C, M).

    With concatenation along time they have the encoder's S steps instead of C frames.
    """

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        raw = c.sound == "raw"
        self.stem = RawStem(c.width, loudness=c.loudness) if raw else Stem(c.mels, c.width)
        self.encoder = _encoder(c.global_layers, c.heads, c)
        self.conv = _conv(self.stem.times, c)
        self.face = _decoder(FACE, self.stem.times, c.heads, c)
        self.mouth = _decoder(MOUTH, self.stem.times, c.heads, c)
        self.config = c

    def forward(self, sound: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(self.encoder(self.stem(sound)))  # Conv(E(x)): (B, S, d) -> (B, C, d)
        v_m = mouth_of(v, self.config)  # eq. 3-4: L_m, v_m (B, M)
        gb = self.face(v, x)  # eq. 5: (B, C, F)
        gb_m = self.mouth(v_m, x)  # eq. 6: (B, C, M)
        return gb, gb_m


class ContentDomain(nn.Module):
    """Section 3.3: script and emotion, -> ct (B, C, F), f (B, C, F), m (B, C, M), and the script.

    The input is wav2vec2's features (B, S, 768), or the log-mel with a Transformer encoder for it.
    Without the LSTM branches (Table 2) f and m are None. Along time they have S steps, as above.
    """

    def __init__(self, c: ModelConfig, wav2vec2: Wav2Vec2 | None) -> None:
        super().__init__()
        if c.content == "mel":
            self.stem = Stem(c.mels, c.width)
            self.script = Encoder(c.content_layers, c.width, c.heads, c.feedforward, c.dropout)
            times, hidden = self.stem.times, c.width
        elif wav2vec2 is not None:
            times, hidden = wav2vec2.times, wav2vec2.width
            same = hidden == c.width and c.concatenate == "time"
            self.down = nn.Identity() if same else nn.Linear(hidden, c.width)
        else:
            raise CheckpointError(f"model config: content is {c.content!r} without a wav2vec2")
        self.gate = nn.Linear(len(EMOTIONS), hidden, bias=False)  # W of w = 1 + W e
        nn.init.normal_(self.gate.weight, std=0.2)
        heads = c.context_heads or c.heads
        self.encoder = _encoder(c.context_layers, heads, c)
        self.conv = _conv(times, c)
        self.context = _decoder(FACE, times, heads, c)
        if c.lstm:
            self.to_frames = _conv(times, c)
            self.who = nn.Linear(FACE, c.width) if c.direct else None  # embeds the identity
            self.face_lstm, self.face_out = _recurrent(FACE, c)
            self.mouth_lstm, self.mouth_out = _recurrent(MOUTH, c)
        self.own_script, self.lstm, self.steps = c.content == "mel", c.lstm, len(times)

    def forward(
        self, sound: Tensor, v: Tensor, e: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        w = 1 + self.gate(e).unsqueeze(1)  # (B, 1, d), a row's own
        script = self.script(self.stem(sound)) if self.own_script else sound
        x = script * w  # eq. 7: x' (B, S, d)
        if not self.own_script:
            x = self.down(x)
        ct = self.context(v, self.conv(self.encoder(x)))  # (B, C, F)
        if not self.lstm:
            return ct, None, None, script
        frames = self.to_frames(x)  # (B, C, d)
        if self.who is not None:
            frames = frames + self.who(v).unsqueeze(1)
        f = self.face_out(self.face_lstm(frames)[0])  # (B, C, F)
        m = self.mouth_out(self.mouth_lstm(frames)[0])  # (B, C, M)
        return ct, f, m, script


def _recurrent(features: int, c: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """A recurrent branch and its output: a layer, or both directions' states as they are."""
    kind = nn.GRU if c.cell == "gru" else nn.LSTM
    if c.concatenate == "time":
        both = kind(c.width, features // 2, batch_first=True, bidirectional=True)
        return both, nn.Identity()
    return kind(c.width, c.lstm_width, batch_first=True), nn.Linear(c.lstm_width, features)


def _zero(layer: nn.Module) -> None:
    """Makes the layer's output zero until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Fusion(nn.Module):
    """Section 3.4, eq. 8-11: lists of face and mouth features -> x'_f (B, C, F)."""

    def __init__(self, c: ModelConfig, face_inputs: int, mouth_inputs: int) -> None:
        super().__init__()
        self.mouth = Bottleneck(mouth_inputs, c.bottleneck, MOUTH)
        self.face = Bottleneck(face_inputs, c.bottleneck, REST)
        self.residual = TimeConv(face_inputs, REST, 1)

    def forward(self, face: Sequence[Tensor], mouth: Sequence[Tensor]) -> Tensor:
        x_m = torch.cat(list(mouth), dim=-1)  # eq. 8: m (+) gb_m
        x_f = torch.cat(list(face), dim=-1)  # eq. 9: f (+) gb (+) ct, here f, ct, gb
        y_f = self.face(x_f) * self.residual(x_f)  # eq. 10
        return torch.cat([y_f, self.fused_mouth(x_m)], dim=-1)  # eq. 11: the mouth is the last M

    def fused_mouth(self, x_m: Tensor) -> Tensor:
        return self.mouth(x_m)  # x'_m = B(x_m): (B, C, M)


class DirectFusion(Fusion):
    """With direct paths: the mouth has the linear factor of eq. 10 too; it starts at zero."""

    def __init__(self, c: ModelConfig, face_inputs: int, mouth_inputs: int) -> None:
        super().__init__(c, face_inputs, mouth_inputs)
        self.mouth_residual = TimeConv(mouth_inputs, MOUTH, 1)
        for block, linear in ((self.face, self.residual), (self.mouth, self.mouth_residual)):
            assert block.up.bias is not None
            nn.init.ones_(block.up.bias)
            _zero(linear)

    def fused_mouth(self, x_m: Tensor) -> Tensor:
        return self.mouth(x_m) * self.mouth_residual(x_m)


class TimeFusion(nn.Module):
    """Eq. 8-11 along time: lists of (B, S, F) and (B, S, M) -> x'_f (B, C, 2, 68), x before y."""

    def __init__(self, c: ModelConfig, face_steps: int, mouth_steps: int) -> None:
        super().__init__()
        self.mouth = PlaneBottleneck(mouth_steps, c.bottleneck // 2)
        self.face = PlaneBottleneck(face_steps, c.bottleneck)
        self.residual = nn.Conv2d(face_steps, FRAMES, 1)

    def forward(self, face: Sequence[Tensor], mouth: Sequence[Tensor]) -> Tensor:
        x_m, x_f = _planes(mouth), _planes(face)  # eq. 8-9: (B, steps, 2, 20 or 68)
        y_f = self.face(x_f) * self.residual(x_f)  # eq. 10
        return torch.cat([y_f[..., :48], self.mouth(x_m)], dim=-1)  # eq. 11


def _planes(parts: Sequence[Tensor]) -> Tensor:
    """(B, S, 2 K) each -> concatenated along time, (B, steps, 2, K)."""
    return torch.cat(list(parts), dim=1).unflatten(-1, (2, -1))


class Linear(nn.Module):
    """Table 2, w/o KFusion: one linear layer over all features, and nothing after it."""

    def __init__(self, c: ModelConfig, face_inputs: int, mouth_inputs: int) -> None:
        super().__init__()
        self.mix = nn.Linear(face_inputs + mouth_inputs, FACE)
        if c.direct or c.head == "none":
            _zero(self.mix)

    def forward(self, face: Sequence[Tensor], mouth: Sequence[Tensor]) -> Tensor:
        return self.mix(torch.cat([*face, *mouth], dim=-1))


class TimeLinear(nn.Module):
    """:class:`Linear` along time: each coordinate of a frame from all of its steps."""

    def __init__(self, c: ModelConfig, face_steps: int, mouth_steps: int) -> None:
        super().__init__()
        self.face = nn.Conv2d(face_steps, FRAMES, 1)
        self.mouth = nn.Conv2d(mouth_steps, FRAMES, 1)
        if c.head == "none":
            _zero(self)

    def forward(self, face: Sequence[Tensor], mouth: Sequence[Tensor]) -> Tensor:
        y, y_m = self.face(_planes(face)), self.mouth(_planes(mouth))
        return torch.cat([y[..., :48], y[..., 48:] + y_m], dim=-1)


def _fusion(c: ModelConfig, face_inputs: int, mouth_inputs: int) -> nn.Module:
    if c.concatenate == "time":
        kind = TimeFusion if c.fusion else TimeLinear
    else:
        kind = (DirectFusion if c.direct else Fusion) if c.fusion else Linear
    return kind(c, face_inputs, mouth_inputs)


def _head(c: ModelConfig) -> nn.Module:
    size = 68 if c.concatenate == "time" else FACE
    if c.head == "kan":
        return KAN(size, c.kan_hidden, size, c.kan_grid, c.kan_range)
    if c.head == "mlp":
        return MLP(size, c.kan_hidden, size)
    return nn.Identity()


class MLP(nn.Module):
    """Table 2, MLP for KAN, of the same widths; its last layer starts at zero."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(F.silu(self.inner(x)))


@dataclass(frozen=True)
class Auxiliary:
    """Inner values for a loss: ``script`` (B, S, d) of the content encoder, ``fused``, the input of
    the head: (B, C, F), or (B, C, 2, 68) along time.
    """

    script: Tensor
    fused: Tensor


class KFusion(nn.Module):
    """A window of sound, a face and an emotion -> the face's next 30 frames.

    ``audio`` (B, 16000) at 16 kHz in -1..1; ``identity`` (B, 68, 2) in canonical pixels;
    ``emotion`` (B, 8) -> landmarks (B, 30, 68, 2) in canonical pixels. For a preset with
    wav2vec2 use :meth:`with_wav2vec2`, which reads its weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = c = config
        uses_mel = c.content == "mel" or (c.global_domain and c.sound == "mel")
        self.mel = LogMel(c.mels) if uses_mel else None
        self.wav2vec2 = Wav2Vec2(c.wav2vec2, c.freeze_wav2vec2) if c.content != "mel" else None
        self.global_domain = GlobalDomain(c) if c.global_domain else None
        self.content_domain = ContentDomain(c, self.wav2vec2)
        if c.concatenate == "time" and c.direct:
            raise CheckpointError("model config: direct paths need concatenate 'features'")
        along_time = c.concatenate == "time"
        content = self.content_domain.steps if along_time else 1
        sound = len(self.global_domain.stem.times) if self.global_domain and along_time else 1
        face = content * (1 + c.lstm) + sound * c.global_domain + c.direct
        mouth = content * c.lstm + sound * c.global_domain + c.direct
        if not (c.lstm or c.global_domain):
            mouth += content  # the mouth of ct
        sizes = (face, mouth) if along_time else (FACE * face, MOUTH * mouth)
        self.fusion = _fusion(c, *sizes)
        self.head = _head(c)

    @classmethod
    def with_wav2vec2(cls, config: ModelConfig, source: str | Path) -> KFusion:
        """A new network around pretrained wav2vec2 weights, by hub name or local folder."""
        return around_pretrained(cls, config, source)

    def forward(self, audio: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        return identity.unsqueeze(1) + self.displacement(audio, identity, emotion)

    def displacement(
        self, audio: Tensor, identity: Tensor, emotion: Tensor, stretch: Tensor | None = None
    ) -> Tensor:
        """(B, 30, 68, 2) without the identity added. ``stretch`` (B,): of the mel axis."""
        return self.decode(*self.features(audio, stretch), identity, emotion)

    def features(
        self, audio: Tensor, stretch: Tensor | None = None, content: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Audio (B, 16000) -> the inputs of the two domains: (global, content).

        Log-mel (B, 100, mels), the raw signal, or wav2vec2's features (B, S, 768). The latter can
        be cached, and given as ``content`` instead of being computed.
        """
        mel = self.mel(audio, stretch) if self.mel is not None else audio
        sound = mel if self.config.sound == "mel" else audio
        if content is not None:
            return sound, content
        return sound, self.wav2vec2(audio) if self.wav2vec2 is not None else mel

    def decode(self, sound: Tensor, content: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        """The output of :meth:`features`, a face, an emotion -> displacements (B, 30, 68, 2)."""
        return self.decode_and_auxiliary(sound, content, identity, emotion)[0]

    def decode_and_auxiliary(
        self, sound: Tensor, content: Tensor, identity: Tensor, emotion: Tensor
    ) -> tuple[Tensor, Auxiliary]:
        """:meth:`decode`, with the inner values that a loss may use."""
        v = self.face_features(identity)
        branches, script = self.branches(sound, content, v, emotion)
        y, fused = self.fuse(branches, v)
        return y * self.config.unit_px, Auxiliary(script, fused)

    def face_features(self, identity: Tensor) -> Tensor:
        """v: a face (B, 68, 2) in canonical pixels -> (B, F), x and y of each point in turn, or
        along time all x before all y.
        """
        points = (identity - CROP_CENTRE) / CROP_SCALE
        return (points.mT if self.config.concatenate == "time" else points).flatten(1)

    def branches(
        self, sound: Tensor, content: Tensor, v: Tensor, emotion: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What the two domains say, by the paper's names: those of f, ct, gb (B, C, F) and of m,
        gb_m (B, C, M) that the network has; and the script (B, S, d). Along time each has S steps.
        """
        ct, f, m, script = self.content_domain(content, v, emotion)
        found = {"f": f, "ct": ct, "m": m}
        if self.global_domain is not None:
            found["gb"], found["gb_m"] = self.global_domain(sound, v)
        return {name: part for name, part in found.items() if part is not None}, script

    def fuse(self, branches: Mapping[str, Tensor], v: Tensor) -> tuple[Tensor, Tensor]:
        """Section 3.4: :meth:`branches` and the identity v (B, F) -> y (B, C, 68, 2) in units, less
        the identity, and the input of the head.
        """
        face = [branches[name] for name in ("f", "ct", "gb") if name in branches]
        mouth = [branches[name] for name in ("m", "gb_m") if name in branches]
        mouth = mouth or [mouth_of(branches["ct"], self.config)]
        if self.config.direct:
            identities = v.unsqueeze(1).expand(-1, FRAMES, -1)
            face.append(identities)
            mouth.append(mouth_of(identities, self.config))
        with torch.autocast(v.device.type, enabled=False):  # positions want more than 8 bits
            fused = self.fusion([x.float() for x in face], [x.float() for x in mouth])
            y = self.head(fused)  # eq. 12, less the identity
            if self.config.direct and self.config.head != "none":
                y = y + fused
        if self.config.concatenate == "time":
            return y.transpose(-1, -2), fused
        return y.unflatten(-1, (68, 2)), fused
