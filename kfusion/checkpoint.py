"""Model files: safetensors with JSON metadata, never pickle.

Metadata: ``format``, ``version`` of this project, ``config`` (a ModelConfig), ``normalisation`` and
``provenance`` (command, data, its sha256, seed, licence). Loading names every difference.

A network with a frozen wav2vec2 of known origin is written without its weights, 378 of 412 MB for
the base model. ``wav2vec2`` names their source and sha256 instead, and loading takes them from
there: from transformers' cache, the hub or a folder.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

import kfusion
from kfusion.config import CROP_CENTRE, CROP_SCALE, FPS, SAMPLE_RATE, ModelConfig
from kfusion.emotion import EMOTIONS
from kfusion.errors import CheckpointError
from kfusion.landmarks import NEUTRAL, RIGID
from kfusion.layers.wav2vec2 import Origin, Wav2Vec2, pretrained, weights_sha256
from kfusion.model import KFusion
from kfusion.system import write_whole

FORMAT: Final = "kfusion-1"
ENCODER: Final = "wav2vec2.model."
"""Where a network's weights have those of wav2vec2."""
SOURCE: Final = "KFUSION_WAV2VEC2"
"""The environment's variable with another source of wav2vec2's weights: a hub name or folder."""


def normalisation() -> dict[str, Any]:
    """What a network's inputs and outputs mean; weights are of no use under another."""
    return {
        "sample_rate": SAMPLE_RATE,
        "fps": FPS,
        "centre": CROP_CENTRE,
        "scale": CROP_SCALE,
        "emotions": list(EMOTIONS),
        "rigid": {str(i): NEUTRAL[i].tolist() for i in RIGID},
    }


def save_model(
    path: Path, model: KFusion, provenance: dict[str, Any], *, whole: bool = False
) -> None:
    """Writes the weights (float32), config and provenance; whole or not at all.

    Frozen weights of wav2vec2 whose origin is known are left out, unless the file is to be
    ``whole``.
    """
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "version": kfusion.__version__,
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
        "normalisation": json.dumps(normalisation(), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    if not whole:
        tensors, named = without_encoder(tensors, model.wav2vec2)
        metadata |= named
    write_whole(path, save(tensors, metadata))


def load_model(path: Path, wav2vec2: str | Path | None = None) -> tuple[KFusion, dict[str, Any]]:
    """The network in evaluation mode, and its provenance.

    A file without wav2vec2's weights takes them from ``wav2vec2``, a hub name or folder, else from
    that in the environment's :data:`SOURCE`, else from where they came from in training.

    Raises :class:`~kfusion.errors.CheckpointError` for a missing, truncated or foreign file, for
    weights that do not fit their own configuration, and where the wav2vec2 it was trained with
    cannot be had.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: format is {metadata.get('format')!r}; wanted {FORMAT!r}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; wanted a .safetensors checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None
    config = ModelConfig.from_dict(_json(path, metadata, "config"))
    provenance = _json(path, metadata, "provenance")
    _check_normalisation(path, _json(path, metadata, "normalisation"))
    tensors, origin = with_encoder(path, metadata, tensors, wav2vec2)
    try:
        model = KFusion(config)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: no network has this configuration ({error})") from None
    _check_tensors(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    if model.wav2vec2 is not None:
        model.wav2vec2.origin = origin
    return model.eval().requires_grad_(False), provenance


Tensors = dict[str, torch.Tensor]


def without_encoder(tensors: Tensors, encoder: Wav2Vec2 | None) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a file less those of a frozen wav2vec2 of known origin, and the metadata that
    names it.
    """
    if encoder is None or not encoder.frozen or encoder.origin is None:
        return tensors, {}
    kept = {name: value for name, value in tensors.items() if ENCODER not in name}
    named = {**asdict(encoder.origin), "prefix": _prefix(tensors)}
    return kept, {"wav2vec2": json.dumps(named, sort_keys=True)}


def _prefix(tensors: Tensors) -> str:
    name = next(name for name in tensors if ENCODER in name)
    return name[: name.index(ENCODER) + len(ENCODER)]


def with_encoder(
    path: Path, metadata: dict[str, str], tensors: Tensors, source: str | Path | None = None
) -> tuple[Tensors, Origin | None]:
    """The tensors of a file with those that :func:`without_encoder` left out, and their origin.

    ``source`` is as in :func:`load_model`. Raises :class:`~kfusion.errors.CheckpointError`.
    """
    if "wav2vec2" not in metadata:
        return tensors, None
    named = _json(path, metadata, "wav2vec2")
    if set(named) != {"source", "sha256", "prefix"} or not all(
        isinstance(value, str) for value in named.values()
    ):
        raise CheckpointError(f"{path}: broken metadata: wav2vec2 is {named}")
    prefix = named.pop("prefix")
    origin = Origin(**named)
    weights = _weights(path, origin, source or os.environ.get(SOURCE) or origin.source)
    return tensors | {prefix + name: value for name, value in weights.items()}, origin


def _weights(path: Path, origin: Origin, source: str | Path) -> Tensors:
    wanted = (
        f"it was trained with {origin.source} (sha256 {origin.sha256[:16]}...); wanted that in "
        f"transformers' cache, on the hub, or in a folder that {SOURCE} names"
    )
    try:
        _, weights = pretrained(source)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: is without wav2vec2's weights; {wanted}. {error}") from None
    if (found := weights_sha256(weights)) != origin.sha256:
        raise CheckpointError(
            f"{path}: is without wav2vec2's weights, and {source} has others "
            f"(sha256 {found[:16]}...); {wanted}"
        )
    return weights


def _json(path: Path, metadata: dict[str, str], field: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata[field])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: broken metadata: {field} ({error!r})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: broken metadata: {field} is no object")
    return value


def _check_normalisation(path: Path, found: dict[str, Any]) -> None:
    expected = normalisation()
    differing = [k for k in sorted(set(expected) | set(found)) if expected.get(k) != found.get(k)]
    if differing:
        listed = "; ".join(f"{k} is {found.get(k)}, here {expected.get(k)}" for k in differing)
        raise CheckpointError(f"{path}: trained under another normalisation: {listed}")


def _check_tensors(
    path: Path, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    problems = [f"missing {name}" for name in sorted(set(expected) - set(found))]
    problems += [f"unknown {name}" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(expected) & set(found)):
        e, f = expected[name], found[name]
        if e.shape != f.shape:
            problems.append(f"{name} is {list(f.shape)}, wanted {list(e.shape)}")
        elif f.dtype != torch.float32:
            problems.append(f"{name} is {f.dtype}, wanted float32")
        elif not bool(torch.isfinite(f).all()):
            problems.append(f"{name} is not finite")
    if problems:
        shown = "; ".join(problems[:8]) + (" ..." if len(problems) > 8 else "")
        raise CheckpointError(f"{path}: {len(problems)} differences: {shown}")
