"""What docs/model.md says of each preset against the paper. Each test guards one line of it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import PRESETS, ModelConfig
from kfusion.layers.blocks import (
    Encoder,
    EncoderLayer,
    LandmarkDecoder,
    PlaneBottleneck,
    StepDecoder,
)
from kfusion.layers.encoder import RawStem
from kfusion.layers.kan import KAN
from kfusion.model import Fusion, KFusion, TimeFusion, mouth_of
from tests.conftest import voice
from tests.kfusion.test_model import PAPER, PAPER_DIRECT, SMALL, inputs, perturbed

ROOT = Path(__file__).resolve().parents[2]


def inputs_of(module: nn.Module, run: Callable[[], object]) -> tuple[Tensor, ...]:
    """What a module is given while ``run`` runs."""
    seen: list[tuple[Tensor, ...]] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given)

    with module.register_forward_pre_hook(keep):
        run()
    (given,) = seen
    return given


# The page


def cited() -> list[tuple[str, str]]:
    """(file, test) of every test that the tables of docs/model.md name."""
    text = (ROOT / "docs/model.md").read_text(encoding="utf-8")
    links = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", text)
    return [(file, test) for test, file in links]


def test_every_test_that_the_tables_name_exists() -> None:
    assert len(cited()) >= 20
    for file, test in cited():
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), (file, test)


# Preset `paper`


def test_paper_has_no_paths_but_the_papers() -> None:
    model = KFusion(PAPER)
    assert not PRESETS["paper"].direct and not PAPER.direct
    assert model.content_domain.who is None and type(model.fusion) is TimeFusion
    branches = {"f": 136, "ct": 136, "m": 40, "gb": 136, "gb_m": 40}
    values = {name: torch.zeros(1, 50 if "gb" in name else 49, n) for name, n in branches.items()}
    one, other = torch.zeros(1, 136), torch.ones(1, 136)
    # Nothing but the branches tells the fusion of the face.
    model = perturbed(PAPER)
    assert torch.equal(model.fuse(values, one)[0], model.fuse(values, other)[0])


def test_paper_has_the_authors_sizes() -> None:
    c = PRESETS["paper"]
    assert (c.kan_grid, c.kan_range, c.freeze_wav2vec2) == (5, 1.0, True)
    with torch.device("meta"):
        model = KFusion(replace(c, wav2vec2=PAPER.wav2vec2))
    widths: dict[type, list[tuple[int, int]]] = {}
    for layer in model.modules():
        if isinstance(layer, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            attention = layer.self_attn
            widths.setdefault(type(layer), []).append((attention.embed_dim, attention.num_heads))
            assert (attention.dropout, layer.dropout.p) == (0.2, 0.2)
            assert layer.linear1.out_features == 2048
            assert layer.activation is F.relu and not layer.norm_first
    assert widths == {
        nn.TransformerEncoderLayer: [(768, 2), (768, 1)],
        nn.TransformerDecoderLayer: [(136, 2), (40, 2), (136, 1)],
    }
    assert isinstance(model.fusion, TimeFusion) and isinstance(model.head, KAN)
    assert model.fusion.face.down.out_channels == 256
    assert model.fusion.mouth.down.out_channels == 128
    assert model.head.inner.base.shape == (512, 68) and model.head.outer.base.shape == (68, 512)
    kan = KFusion(PAPER).head
    assert isinstance(kan, KAN)
    for edges in (kan.inner, kan.outer):
        assert edges.splines == 5 + 3
        torch.testing.assert_close(edges.low + 5 * edges.step, torch.ones_like(edges.low))
        assert (edges.low == -1).all()


def test_the_kan_of_paper_is_one_for_x_and_y() -> None:
    model = perturbed(PAPER)
    fused = torch.randn(2, 30, 2, 68, generator=torch.Generator().manual_seed(0))
    swapped = model.head(fused.flip(2))
    torch.testing.assert_close(swapped.flip(2), model.head(fused))


def test_the_lstms_of_paper_read_both_ways_and_their_states_are_landmarks() -> None:
    domain = perturbed(PAPER).content_domain
    for lstm, features in ((domain.face_lstm, 136), (domain.mouth_lstm, 40)):
        assert isinstance(lstm, nn.LSTM) and lstm.bidirectional
        assert 2 * lstm.hidden_size == features
    assert isinstance(domain.face_out, nn.Identity) and isinstance(domain.mouth_out, nn.Identity)
    x = torch.zeros(1, 49, PAPER.width)
    later = x.clone()
    later[:, 40] = 1
    change = (domain.face_lstm(later)[0] - domain.face_lstm(x)[0]).abs().amax(-1)[0]
    assert change[39] > 1e-4 and change[41] > 1e-4


def test_the_branches_of_paper_keep_the_encoders_steps_and_are_joined_along_time() -> None:
    model = perturbed(PAPER)
    audio, identity, emotion = inputs(2)
    v = model.face_features(identity)
    branches, _ = model.branches(*model.features(audio), v, emotion)
    shapes = {name: tuple(part.shape[1:]) for name, part in branches.items()}
    assert shapes == {
        "f": (49, 136), "ct": (49, 136), "m": (49, 40), "gb": (50, 136), "gb_m": (50, 40)
    }  # fmt: skip
    assert isinstance(model.fusion, TimeFusion)
    assert model.fusion.face.down.in_channels == 49 + 49 + 50
    assert model.fusion.mouth.down.in_channels == 49 + 50
    kernels = [
        layer.kernel_size for layer in model.fusion.face.children() if isinstance(layer, nn.Conv2d)
    ]
    assert kernels == [(1, 1), (3, 3), (1, 1)]


def test_the_mouth_of_paper_is_written_over_the_faces_by_eq_11() -> None:
    model = perturbed(PAPER)
    assert isinstance(model.fusion, TimeFusion)
    g = torch.Generator().manual_seed(1)
    face = [torch.randn(1, n, 136, generator=g) for n in (49, 49, 50)]
    mouth = [torch.randn(1, n, 40, generator=g) for n in (49, 50)]
    out = model.fusion(face, mouth)
    planes = [torch.cat(parts, 1).unflatten(-1, (2, -1)) for parts in (face, mouth)]
    product = model.fusion.face(planes[0]) * model.fusion.residual(planes[0])  # eq. 10
    torch.testing.assert_close(out[..., :48], product[..., :48])
    torch.testing.assert_close(out[..., 48:], model.fusion.mouth(planes[1]))


def test_the_features_of_paper_are_all_x_and_then_all_y() -> None:
    model = perturbed(PAPER)
    identity = torch.arange(136.0).reshape(1, 68, 2)
    x, y = identity[0, :, 0], identity[0, :, 1]
    v = 64 * model.face_features(identity)[0] + 128
    torch.testing.assert_close(v, torch.cat([x, y]))
    torch.testing.assert_close(mouth_of(v, PAPER), torch.cat([x[48:], y[48:]]))
    compact = 64 * perturbed(SMALL).face_features(identity)[0] + 128
    torch.testing.assert_close(compact, torch.arange(136.0))
    torch.testing.assert_close(mouth_of(compact, SMALL), torch.arange(96.0, 136.0))
    # The mouth's decoder is given the mouth, and the output has x before y again.
    domain = model.global_domain
    assert domain is not None and isinstance(model.head, KAN)
    seen: list[torch.Tensor] = []
    hook = domain.mouth.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    audio, face, emotion = inputs(1)
    v = model.face_features(face)
    branches, _ = model.branches(*model.features(audio), v, emotion)
    hook.remove()
    torch.testing.assert_close(seen[0], mouth_of(v, PAPER))
    y_out, fused = model.fuse(branches, v)
    torch.testing.assert_close(y_out[..., 0], model.head(fused)[:, :, 0])


def test_the_queries_of_paper_are_a_convolution_of_the_identity() -> None:
    """The authors' Conv1d from one step to S: each query is the identity, scaled and shifted."""
    model = KFusion(PAPER)
    assert model.global_domain is not None
    decoders = (model.global_domain.face, model.global_domain.mouth, model.content_domain.context)
    assert all(isinstance(decoder, StepDecoder) for decoder in decoders)
    decoder = StepDecoder(40, 50, 1, 32, 2, 48, 0.0)
    g = torch.Generator().manual_seed(2)
    v, memory = torch.randn(3, 40, generator=g), torch.randn(3, 50, 32, generator=g)
    queries, attended = inputs_of(decoder.decoder, lambda: decoder(v, memory))
    scale, shift = decoder.queries.weight[:, 0, 0], decoder.queries.bias
    assert shift is not None
    torch.testing.assert_close(queries, v[:, None] * scale[:, None] + shift[:, None])
    torch.testing.assert_close(attended, decoder.memory(memory))


def test_the_global_domain_of_paper_hears_the_signal_and_not_wav2vec2() -> None:
    model = perturbed(PAPER)
    audio, identity, emotion = inputs(2)
    v = model.face_features(identity)
    sound, content = model.features(audio)
    assert torch.equal(sound, audio)
    one, _ = model.branches(sound, content, v, emotion)
    other, _ = model.branches(sound.flip(1), content, v, emotion)
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"gb", "gb_m"}


def test_the_global_domain_of_paper_has_one_encoder() -> None:
    domain = KFusion(PAPER).global_domain
    assert domain is not None
    encoders = [m for m in domain.modules() if isinstance(m, nn.TransformerEncoder)]
    decoders = [m for m in domain.modules() if isinstance(m, nn.TransformerDecoder)]
    stems = [m for m in domain.modules() if isinstance(m, RawStem)]
    assert len(stems) == 1 and len(encoders) == 1 and len(decoders) == 2


def test_the_global_domain_of_paper_hears_loudness() -> None:
    speech = torch.from_numpy(voice(1.0))[None]
    assert PRESETS["paper"].loudness and not PRESETS["paper-direct"].loudness
    torch.manual_seed(0)
    keeps, divides = (KFusion(config).global_domain for config in (PAPER, PAPER_DIRECT))
    assert keeps is not None and divides is not None
    assert (keeps.stem(speech) - keeps.stem(speech * 0.3)).abs().mean() > 0.1
    assert (divides.stem(speech) - divides.stem(speech * 0.3)).abs().mean() < 1e-3


def test_steps_of_the_raw_signal_have_positions() -> None:
    torch.manual_seed(0)
    stem = RawStem(32, loudness=True)
    silence = stem(torch.zeros(1, 16_000))[0]
    assert (silence[1:] - silence[:-1]).abs().amax(-1).min() > 1e-3


# Presets `compact` and `paper-direct`


def test_the_queries_of_compact_are_the_identity_the_frame_and_its_sound() -> None:
    model = KFusion(SMALL)
    assert model.global_domain is not None
    decoders = (model.global_domain.face, model.global_domain.mouth, model.content_domain.context)
    assert all(isinstance(decoder, LandmarkDecoder) for decoder in decoders)
    decoder = LandmarkDecoder(136, 1, 32, 2, 48, 0.0)
    g = torch.Generator().manual_seed(5)
    v, memory = torch.randn(3, 136, generator=g), torch.randn(3, 30, 32, generator=g)
    queries, attended = inputs_of(decoder.layers[0], lambda: decoder(v, memory))
    frames = decoder.positions
    torch.testing.assert_close(queries, decoder.embed(v)[:, None] + frames + memory)
    assert (frames[1:] - frames[:-1]).abs().amax(-1).min() > 1e-3
    assert torch.equal(attended, memory)


def test_the_transformers_of_compact_are_normalised_before_each_part() -> None:
    for name, width in (("compact", 128), ("paper-direct", 256)):
        c = PRESETS[name]
        assert (c.width, c.heads, c.dropout) == (width, 4, 0.1)
    for config in (SMALL, PAPER_DIRECT):
        model = KFusion(config)
        assert model.global_domain is not None
        assert isinstance(model.global_domain.encoder, Encoder)
        assert isinstance(model.content_domain.encoder, Encoder)
    layer = EncoderLayer(8, 2, 48, 0.0)
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        for parameter in (*layer.attend.parameters(), *layer.up.parameters(), layer.down.bias):
            parameter.zero_()
        layer.up.bias.fill_(-1)
        layer.down.weight.fill_(1)
        # What comes in is added to what the parts say, and the sum is not normalised.
        torch.testing.assert_close(layer(x), x + 48 * F.gelu(torch.tensor(-1.0)))


def test_direct_paths_give_the_identity_to_the_recurrent_branches_and_the_fusion() -> None:
    audio, identity, emotion = inputs(1)
    for config in (SMALL, PAPER_DIRECT, replace(SMALL, direct=False), PAPER):
        model = perturbed(config)
        v = model.face_features(identity)
        heard = model.features(audio)
        one, _ = model.branches(*heard, v, emotion)
        other, _ = model.branches(*heard, 2 * v, emotion)
        for name in ("f", "m"):
            assert torch.equal(one[name], other[name]) is not config.direct
        fused = [model.fuse(one, face)[1] for face in (v, 2 * v)]
        differ = (fused[0] != fused[1]).flatten(2).any(1)[0]
        assert bool(differ[:96].any()) is bool(differ[96:].any()) is config.direct


def test_compact_does_not_build_the_channels_that_eq_11_overwrites() -> None:
    fusion = KFusion(SMALL).fusion
    assert isinstance(fusion, Fusion)
    assert fusion.face.up.out_channels == 96 and fusion.residual.out_channels == 96
    assert fusion.mouth.up.out_channels == 40


def test_compact_multiplies_in_eq_10() -> None:
    model = perturbed(SMALL)
    assert isinstance(model.fusion, Fusion)
    face = [torch.randn(1, 30, 136 * 4, generator=torch.Generator().manual_seed(3))]
    mouth = [torch.randn(1, 30, 40 * 3, generator=torch.Generator().manual_seed(4))]
    out = model.fusion(face, mouth)
    expected = model.fusion.face(face[0]) * model.fusion.residual(face[0])
    torch.testing.assert_close(out[..., :96], expected)


def test_compact_has_grus_that_read_one_way() -> None:
    for config, kind in ((SMALL, nn.GRU), (PAPER_DIRECT, nn.LSTM)):
        domain = KFusion(config).content_domain
        for layer in (domain.face_lstm, domain.mouth_lstm):
            assert type(layer) is kind and not layer.bidirectional


def test_compact_hears_log_mel_twice_and_no_loudness() -> None:
    model = perturbed(SMALL)
    audio = torch.from_numpy(voice(1.0))[None]
    sound, content = model.features(audio)
    assert sound is content and sound.shape == (1, 100, 80)
    assert (model.features(0.3 * audio)[0] - sound).abs().mean() < 0.02
    script = model.content_domain.script
    assert isinstance(script, Encoder) and len(script.layers) == 3


def test_kan_and_grid_of_compact() -> None:
    kan = KFusion(SMALL).head
    assert isinstance(kan, KAN)
    assert kan.inner.base.shape == (12, 136) and kan.outer.base.shape == (136, 12)
    assert float(kan.inner.low[0]) == -3 and kan.inner.splines == 11


def test_the_preset_that_older_files_call_paper_is_paper_direct() -> None:
    older = {"preset": "paper", "direct": True, "sound": "raw", "content": "wav2vec2"}
    assert ModelConfig.from_dict(older).preset == "paper-direct"
    assert ModelConfig.from_dict(PRESETS["paper"].to_dict()) == PRESETS["paper"]
    assert isinstance(KFusion(PAPER).fusion.face, PlaneBottleneck)
