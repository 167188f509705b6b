"""Model files: safetensors with JSON metadata, never pickle.

Metadata: ``format``, ``version`` of this project, ``config`` (a ModelConfig), ``normalisation`` and
``provenance`` (command, data, its sha256, seed, licence). Loading names every difference.
"""

import json
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
from kfusion.model import KFusion
from kfusion.system import write_whole

FORMAT: Final = "kfusion-1"


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


def save_model(path: Path, model: KFusion, provenance: dict[str, Any]) -> None:
    """Writes the weights (float32), config and provenance; whole or not at all."""
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "version": kfusion.__version__,
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
        "normalisation": json.dumps(normalisation(), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    write_whole(path, save(tensors, metadata))


def load_model(path: Path) -> tuple[KFusion, dict[str, Any]]:
    """The network in evaluation mode, and its provenance.

    Raises :class:`~kfusion.errors.CheckpointError` for a missing, truncated or foreign file and
    for weights that do not fit their own configuration.
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
    try:
        model = KFusion(config)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: no network has this configuration ({error})") from None
    _check_tensors(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False), provenance


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
