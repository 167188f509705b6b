"""Every network that can be trained here by its name: KFusion, its ablations, the baselines."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kfusion.checkpoint import load_model, save_model, with_encoder, without_encoder
from kfusion.config import ModelConfig
from kfusion.errors import CheckpointError
from kfusion.layers.wav2vec2 import around_pretrained
from kfusion.model import KFusion
from kfusion.runtime import Engine
from kfusion.system import file_sha256, write_whole
from training.models.baselines import Baseline, Cao, Chen, Eskimez, Ji, Sinha, Transformer

Network = KFusion | Baseline
FORMAT: Final = "kfusion-baseline-2"
OLDER: Final = ("kfusion-baseline-1",)
"""Baselines whose encoders were their own."""

ABLATIONS: Final[dict[str, dict[str, Any]]] = {
    "without-kfusion": {"fusion": False, "head": "none"},
    "without-lstm": {"lstm": False},
    "without-global": {"global_domain": False},
    "mlp": {"head": "mlp"},
    "kfusion": {},
}
"""The rows of the paper's Table 2, as what they change in a :class:`ModelConfig`."""

CHOICES: Final[dict[str, dict[str, Any]]] = {
    "lstm-cells": {"cell": "lstm"},
    "no-direct-paths": {"direct": False, "cell": "lstm", "lstm_width": 128, "global_layers": 2},
}
"""KFusion without what was changed for accuracy at a small budget: only GRUs for LSTMs, and all
(which is the network of the first bundled weights)."""

BASELINES: Final[dict[str, type[Baseline]]] = {
    "eskimez": Eskimez,
    "chen": Chen,
    "ji": Ji,
    "sinha": Sinha,
    "cao": Cao,
    "transformer": Transformer,
}


def build(name: str, config: ModelConfig, wav2vec2: str = "") -> Network:
    """A new network; for a preset with wav2vec2 around the weights at that name or folder."""
    if name not in BASELINES:
        config = replace(config, **{**ABLATIONS, **CHOICES}[name])
    kind: type[Network] = BASELINES.get(name, KFusion)
    if config.content == "wav2vec2":
        return around_pretrained(kind, config, wav2vec2)
    return kind(config)


def configured(config: ModelConfig, fields: Sequence[str]) -> ModelConfig:
    """The configuration with ["dropout=0", "lstm_width=192", ...] set, values in JSON or as they
    stand.

    Raises :class:`~kfusion.errors.CheckpointError` for an unknown field or a wrong type.
    """
    values = config.to_dict()
    for field in fields:
        name, _, text = field.partition("=")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return ModelConfig.from_dict(values)


def network_name(network: Network) -> str:
    """The name under which :func:`build` makes it."""
    if isinstance(network, Baseline):
        return next(name for name, kind in BASELINES.items() if type(network) is kind)
    ablation = ablation_name(network.config)
    if ablation != "kfusion" or network.config.preset != "compact":
        return ablation
    if not network.config.direct:
        return "no-direct-paths"
    return "kfusion" if network.config.cell == "gru" else "lstm-cells"


def ablation_name(config: ModelConfig) -> str:
    """The row of Table 2 that a configuration is; "kfusion" has every part."""
    for name, change in ABLATIONS.items():
        if change and all(getattr(config, k) == v for k, v in change.items()):
            return name
    return "kfusion"


def save_network(path: Path, network: Network, provenance: dict[str, Any]) -> None:
    """A KFusion checkpoint, or a baseline's in a format of its own; whole or not at all."""
    if isinstance(network, KFusion):
        save_model(path, network, provenance)
        return
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "baseline": network_name(network),
        "config": json.dumps(network.config.to_dict(), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    tensors, named = without_encoder(tensors, network.wav2vec2)
    write_whole(path, save(tensors, metadata | named))


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """What :func:`save_network` wrote, in evaluation mode, and its provenance.

    Raises :class:`~kfusion.errors.CheckpointError`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") in OLDER:
                raise CheckpointError(
                    f"{path}: a baseline with an encoder of its own, {metadata['format']!r}; "
                    f"wanted {FORMAT!r}: train it again"
                )
            if metadata.get("format") != FORMAT:
                return load_model(path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = BASELINES[metadata["baseline"]](
            ModelConfig.from_dict(json.loads(metadata["config"]))
        )
        tensors, origin = with_encoder(path, metadata, tensors)
        network.load_state_dict(tensors)
        if network.wav2vec2 is not None:
            network.wav2vec2.origin = origin
        provenance: dict[str, Any] = json.loads(metadata["provenance"])
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; wanted a .safetensors checkpoint") from None
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a usable checkpoint ({error})") from None
    return network.eval(), provenance


class NetworkEngine:
    """Any network behind the interface that streams and offline calls use, in float32."""

    lanes = 1  # torch has threads of its own

    def __init__(self, network: Network, sha256: str = "", device: str = "cpu") -> None:
        self.network, self.device = network.eval().to(device), device
        self.name, self.sha256 = network_name(network), sha256

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        parts = [
            torch.from_numpy(np.ascontiguousarray(p, np.float32)).to(self.device)
            for p in (audio, identity, emotion)
        ]
        with torch.inference_mode():
            return self.network.displacement(*parts).float().cpu().numpy()


def load_engine(path: Path, device: str = "cpu") -> Engine:
    """An engine for any checkpoint that training wrote."""
    network, _ = load_network(path)
    return NetworkEngine(network, file_sha256(path), device)
