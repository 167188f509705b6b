"""Model files: safetensors with the configuration and where the weights came from inside.

Never pickle. Loading checks that every tensor of the network is there, with its shape and
type, that none is left over, and that all are finite; what differs is named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kfusion.config import ModelConfig
from kfusion.errors import CheckpointError
from kfusion.model import KFusion

FORMAT: Final = "kfusion-1"


def save_model(path: Path, model: KFusion, provenance: dict[str, Any]) -> None:
    """Writes the weights (float32), config and provenance; whole or not at all."""
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(tensors, metadata))
    partial.replace(path)


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
    try:
        config = ModelConfig.from_dict(json.loads(metadata["config"]))
        provenance = json.loads(metadata["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: broken metadata ({error!r})") from None
    model = KFusion(config)
    _check(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False), provenance


def _check(path: Path, wanted: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    problems = [f"missing {name}" for name in sorted(set(wanted) - set(found))]
    problems += [f"unknown {name}" for name in sorted(set(found) - set(wanted))]
    for name in sorted(set(wanted) & set(found)):
        w, f = wanted[name], found[name]
        if w.shape != f.shape:
            problems.append(f"{name} is {list(f.shape)}, wanted {list(w.shape)}")
        elif f.dtype != torch.float32:
            problems.append(f"{name} is {f.dtype}, wanted float32")
        elif not bool(torch.isfinite(f).all()):
            problems.append(f"{name} is not finite")
    if problems:
        shown = "; ".join(problems[:8]) + (" ..." if len(problems) > 8 else "")
        raise CheckpointError(f"{path}: {len(problems)} differences: {shown}")
