"""Engine that runs a checkpoint in PyTorch."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.engines.base import WEIGHTS
from kfusion.errors import CheckpointError, MissingExtra
from kfusion.system import file_sha256


class TorchEngine:
    """float32 on the CPU; on CUDA compiled for a few batch sizes and, by default, bfloat16."""

    BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)

    def __init__(
        self,
        checkpoint: Path = WEIGHTS,
        device: str = "cpu",
        threads: int = 0,
        *,
        bfloat16: bool | None = None,
        compiled: bool | None = None,
    ) -> None:
        try:
            import torch
        except ImportError:
            raise MissingExtra(
                "PyTorch is not installed; pip install 'kfusion[torch]' (the bundled model runs "
                "on ONNX Runtime without it)"
            ) from None
        from kfusion.checkpoint import load_model

        self._torch = torch
        if threads:
            torch.set_num_threads(threads)
        self.model, self.provenance = load_model(checkpoint)
        self.device = torch.device(device)
        try:
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise CheckpointError(f"device {device!r} cannot be used: {error}") from None
        on_cuda = self.device.type == "cuda"
        self.bfloat16 = on_cuda if bfloat16 is None else bfloat16
        self.compiled = on_cuda if compiled is None else compiled
        self._run: Any = self.model.displacement
        if self.compiled:
            self._run = torch.compile(self._run, dynamic=False)
        self.name = f"{self.model.config.preset}-torch"
        self.lanes = 1  # torch's own threads, or the GPU, already share a step
        self.sha256 = file_sha256(checkpoint)

    def step(
        self, audio: NDArray[Any], identity: NDArray[Any], emotion: NDArray[Any]
    ) -> NDArray[np.float32]:
        torch = self._torch
        count = len(audio)
        size = count
        if self.compiled:
            size = next((b for b in self.BATCH_SIZES if b >= count), count)
        rows: list[Any] = []
        for part in (audio, identity, emotion):
            padded = np.zeros((size, *part.shape[1:]), np.float32)
            padded[:count] = part
            rows.append(torch.from_numpy(padded))
        if self.device.type == "cuda":
            rows = [part.pin_memory().to(self.device, non_blocking=True) for part in rows]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16),
        ):
            out = self._run(*rows)[:count]
        return out.float().cpu().numpy()
