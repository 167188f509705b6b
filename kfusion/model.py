"""KFusion of Dual-Domain, in the paper's order (arXiv 2409.05330, section 3).

Shapes: B batch, C = 30 video frames, S = 50 encoder steps, d width, F = 136 = 68 x 2
coordinates, M = 40 of the mouth (points 48-67, the last 40 features).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import CROP_CENTRE, CROP_SCALE, FRAMES, ModelConfig
from kfusion.emotion import EMOTIONS
from kfusion.layers.blocks import Bottleneck, Encoder, LandmarkDecoder, TimeConv
from kfusion.layers.encoder import LogMel, RawStem, Stem, ToFrames
from kfusion.layers.kan import KAN
from kfusion.layers.wav2vec2 import Wav2Vec2, pretrained

FACE = 136  # F
MOUTH = 40  # M
REST = FACE - MOUTH  # features below the mouth's


class GlobalDomain(nn.Module):
    """Section 3.2: sound to landmarks directly, -> gb (B, C, F), gb_m (B, C, M)."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.stem = Stem(c.mels, c.width) if c.sound == "mel" else RawStem(c.width)
        self.encoder = Encoder(c.global_layers, c.width, c.heads, c.feedforward, c.dropout)
        self.conv = ToFrames(self.stem.times, c.width)
        sizes = (c.decoder_layers, c.width, c.heads, c.feedforward, c.dropout)
        self.face = LandmarkDecoder(FACE, *sizes)
        self.mouth = LandmarkDecoder(MOUTH, *sizes)

    def forward(self, sound: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(self.encoder(self.stem(sound)))  # Conv(E(x)): (B, S, d) -> (B, C, d)
        v_m = v[:, REST:]  # eq. 3-4: L_m, v_m (B, M)
        gb = self.face(v, x)  # eq. 5: (B, C, F)
        gb_m = self.mouth(v_m, x)  # eq. 6: (B, C, M)
        return gb, gb_m


class ContentDomain(nn.Module):
    """Section 3.3: script and emotion, -> ct (B, C, F), f (B, C, F), m (B, C, M).

    What comes in is wav2vec2's features (B, S, 768), or with content ``mel`` the log-mel that a
    Transformer encoder of our own makes into a script. Without the LSTM branches (Table 2) f
    and m are None.
    """

    def __init__(self, c: ModelConfig, times: Tensor | None, hidden: int) -> None:
        super().__init__()
        if c.content == "mel":
            self.stem = Stem(c.mels, c.width)
            self.script = Encoder(c.content_layers, c.width, c.heads, c.feedforward, c.dropout)
            times, hidden = self.stem.times, c.width
        else:
            self.down = nn.Linear(hidden, c.width)
        assert times is not None
        self.gate = nn.Linear(len(EMOTIONS), hidden, bias=False)  # W of w = 1 + W e
        nn.init.normal_(self.gate.weight, std=0.2)
        self.encoder = Encoder(c.context_layers, c.width, c.heads, c.feedforward, c.dropout)
        self.conv = ToFrames(times, c.width)
        self.context = LandmarkDecoder(
            FACE, c.decoder_layers, c.width, c.heads, c.feedforward, c.dropout
        )
        if c.lstm:
            self.to_frames = ToFrames(times, c.width)
            self.who = nn.Linear(FACE, c.width) if c.direct else None
            recurrent = nn.GRU if c.cell == "gru" else nn.LSTM
            self.face_lstm = recurrent(c.width, c.lstm_width, batch_first=True)
            self.mouth_lstm = recurrent(c.width, c.lstm_width, batch_first=True)
            self.face_out = nn.Linear(c.lstm_width, FACE)
            self.mouth_out = nn.Linear(c.lstm_width, MOUTH)
        self.own_script, self.lstm = c.content == "mel", c.lstm

    def forward(
        self, sound: Tensor, v: Tensor, e: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        w = 1 + self.gate(e).unsqueeze(1)  # (B, 1, d), a row's own
        x = self.script(self.stem(sound)) if self.own_script else sound
        x = x * w  # eq. 7: x' (B, S, d)
        if not self.own_script:
            x = self.down(x)
        ct = self.context(v, self.conv(self.encoder(x)))  # (B, C, F)
        if not self.lstm:
            return ct, None, None
        frames = self.to_frames(x)  # (B, C, d)
        if self.who is not None:
            frames = frames + self.who(v).unsqueeze(1)
        f = self.face_out(self.face_lstm(frames)[0])  # (B, C, F)
        m = self.mouth_out(self.mouth_lstm(frames)[0])  # (B, C, M)
        return ct, f, m


def _zero(layer: nn.Linear | TimeConv) -> None:
    """Makes the layer answer zero until it is trained."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class Fusion(nn.Module):
    """Section 3.4, eq. 8-11: the two domains' features -> x'_f (B, C, F)."""

    def __init__(self, c: ModelConfig, face_inputs: int, mouth_inputs: int) -> None:
        super().__init__()
        self.mouth = Bottleneck(mouth_inputs, c.bottleneck, MOUTH)
        self.face = Bottleneck(face_inputs, c.bottleneck, REST)
        self.residual = TimeConv(face_inputs, REST, 1)
        self.mouth_residual = TimeConv(mouth_inputs, MOUTH, 1) if c.direct else None
        if self.mouth_residual is not None:
            # What the head adds to starts at zero, with B of eq. 10 as a factor around one.
            for block, linear in (
                (self.face, self.residual),
                (self.mouth, self.mouth_residual),
            ):
                assert block.up.bias is not None
                nn.init.ones_(block.up.bias)
                _zero(linear)

    def forward(self, x_f: Tensor, x_m: Tensor) -> Tensor:
        y_m = self.mouth(x_m)  # x'_m = B(x_m): (B, C, M)
        if self.mouth_residual is not None:
            y_m = y_m * self.mouth_residual(x_m)
        y_f = self.face(x_f) * self.residual(x_f)  # eq. 10
        return torch.cat([y_f, y_m], dim=-1)  # eq. 11: the mouth's positions are the last M


class Concatenation(nn.Module):
    """Table 2, w/o KFusion: one linear layer over everything, -> (B, C, F)."""

    def __init__(self, c: ModelConfig, face_inputs: int, mouth_inputs: int) -> None:
        super().__init__()
        self.mix = nn.Linear(face_inputs + mouth_inputs, FACE)
        if c.direct:
            _zero(self.mix)

    def forward(self, x_f: Tensor, x_m: Tensor) -> Tensor:
        return self.mix(torch.cat([x_f, x_m], dim=-1))


class MLP(nn.Module):
    """Table 2, MLP for KAN, of the same widths; its last layer starts at zero."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(F.silu(self.inner(x)))


class KFusion(nn.Module):
    """A window of sound, a face and an emotion -> the face's next 30 frames.

    ``audio`` (B, 16000) at 16 kHz in -1..1; ``identity`` (B, 68, 2) in canonical pixels;
    ``emotion`` (B, 8) -> landmarks (B, 30, 68, 2) in canonical pixels. For a preset with
    wav2vec2 use :meth:`with_wav2vec2`, which reads its weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = c = config
        hears_mel = c.content == "mel" or (c.global_domain and c.sound == "mel")
        self.mel = LogMel(c.mels) if hears_mel else None
        self.wav2vec2 = Wav2Vec2(c.wav2vec2, c.freeze_wav2vec2) if c.content != "mel" else None
        self.global_domain = GlobalDomain(c) if c.global_domain else None
        self.content_domain = ContentDomain(
            c,
            self.wav2vec2.times if self.wav2vec2 else None,
            self.wav2vec2.width if self.wav2vec2 else 0,
        )
        face = FACE * (1 + c.lstm + c.global_domain + c.direct)
        mouth = MOUTH * (max(1, c.lstm + c.global_domain) + c.direct)
        self.fusion = Fusion(c, face, mouth) if c.fusion else Concatenation(c, face, mouth)
        if c.head == "kan":
            self.head: nn.Module = KAN(FACE, c.kan_hidden, FACE, c.kan_grid, c.kan_range)
        else:
            self.head = MLP(FACE, c.kan_hidden, FACE)

    @classmethod
    def with_wav2vec2(cls, config: ModelConfig, source: str | Path) -> KFusion:
        """A new network around pretrained wav2vec2 weights, by hub name or local folder."""
        architecture, weights = pretrained(source)
        model = cls(replace(config, content="wav2vec2", wav2vec2=architecture))
        assert model.wav2vec2 is not None
        model.wav2vec2.model.load_state_dict(weights)
        return model

    def forward(self, audio: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        return identity.unsqueeze(1) + self.displacement(audio, identity, emotion)

    def displacement(
        self, audio: Tensor, identity: Tensor, emotion: Tensor, stretch: Tensor | None = None
    ) -> Tensor:
        """The same without the identity added: (B, 30, 68, 2) in canonical pixels.

        ``stretch`` (B,) is an augmentation, of the mel axis.
        """
        return self.decode(*self.features(audio, stretch), identity, emotion)

    def features(self, audio: Tensor, stretch: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Audio (B, 16000) -> what each domain starts from: (global, content).

        Log-mel (B, 100, mels), the raw signal, or wav2vec2's features (B, S, 768), which can be
        cached where wav2vec2 is frozen.
        """
        mel = self.mel(audio, stretch) if self.mel is not None else audio
        content = self.wav2vec2(audio) if self.wav2vec2 is not None else mel
        return (mel if self.config.sound == "mel" else audio), content

    def decode(self, sound: Tensor, content: Tensor, identity: Tensor, emotion: Tensor) -> Tensor:
        """What :meth:`features` gave, a face and an emotion -> displacements (B, 30, 68, 2)."""
        v = (identity.flatten(1) - CROP_CENTRE) / CROP_SCALE  # (B, F)
        ct, f, m = self.content_domain(content, v, emotion)
        of_face, of_mouth = [ct], list[Tensor]()
        if f is not None and m is not None:
            of_face.insert(0, f)
            of_mouth.append(m)
        if self.global_domain is not None:
            gb, gb_m = self.global_domain(sound, v)
            of_face.append(gb)
            of_mouth.append(gb_m)
        if not of_mouth:
            of_mouth.append(ct[..., REST:])
        if self.config.direct:
            who = v.unsqueeze(1).expand(-1, FRAMES, -1)
            of_face.append(who)
            of_mouth.append(who[..., REST:])
        x_m = torch.cat(of_mouth, dim=-1)  # eq. 8: m (+) gb_m
        x_f = torch.cat(of_face, dim=-1)  # eq. 9: f (+) gb (+) ct, here f, ct, gb
        with torch.autocast(x_f.device.type, enabled=False):  # positions want more than 8 bits
            fused = self.fusion(x_f.float(), x_m.float())
            y = self.head(fused)  # eq. 12, less the identity
            if self.config.direct:
                y = y + fused
        return y.unflatten(-1, (68, 2)) * self.config.unit_px


# Departures from the paper, each with its reason and, in tests/kfusion/test_model.py unless
# another file is named, the test that covers it:
#
# - Attention runs along time, within a row; the authors' code attends across the batch, where
#   rows are other people. (test_a_row_alone_gives_what_it_gives_in_a_batch)
# - The emotion is a vector e per row in a gate 1 + W e, so that mixtures are possible; theirs is
#   a label that cancels out at batch 1. (test_the_emotion_changes_its_own_row_and_no_other)
# - The identity is the speaker's face at rest, not the window's own first frame: live there is no
#   such frame. (test_windows.py,
#   test_the_identity_is_the_clips_face_at_rest_whatever_frame_a_window_begins_with)
# - The output is the identity plus a displacement that starts at zero: an untrained network is a
#   face at rest. (test_an_untrained_network_answers_the_identity)
# - Landmarks are normalised by a similarity, so that place, size and roll of a face do not
#   matter. (test_a_similarity_of_the_identity_is_one_of_the_answer)
# - The decoders' queries are identity + frame position + the frame's own audio feature: from the
#   identity alone every frame would ask the same. (test_every_input_matters_at_batch_one)
# - Conv takes S steps to C frames at the frames' true times, where the paper leaves open how 50
#   steps become 30. (test_encoder.py, ..._are_taken_to_frames_at_their_true_times)
# - The 40 channels of eq. 10 that eq. 11 overwrites are not built: the same function, less work.
#   (test_each_switch_changes_exactly_what_it_names counts what is there)
# - Direct paths (ModelConfig.direct): the head adds to what it is given; the mouth's bottleneck too
#   has the linear factor of eq. 10, and both start as that factor alone; the LSTMs and the fusion
#   are told the identity. Without them the same budget of training ended behind a plain recurrent
#   network (training/RESULTS.md). (test_direct_paths_start_at_the_identity_and_carry_gradients)
# - `compact` has GRUs for the LSTMs of section 3.3: at the same width and budget they learned
#   faster (training/RESULTS.md). (test_each_switch_changes_exactly_what_it_names)
# - `compact` hears through log-mel and a Transformer of its own, where the paper has the raw
#   signal and wav2vec2, to be live on two CPU cores. (test_encoder.py, the numpy twin)
