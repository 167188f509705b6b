"""One process, or those that torchrun started, as one thing."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Processes:
    """This process is ``rank`` of ``world``, and trains on ``device``."""

    rank: int
    world: int
    device: str

    @classmethod
    @contextmanager
    def joined(cls, device: str) -> Generator[Processes]:
        """Alone, or with the others of torchrun (nccl on CUDA, gloo on the CPU)."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            yield cls(0, 1, device)
            return
        on_cuda = device.startswith("cuda")
        if on_cuda:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if on_cuda else "gloo")
        try:
            yield cls(distributed.get_rank(), world, device)
        finally:
            distributed.destroy_process_group()

    def any(self, said: bool) -> bool:
        """Whether any of them says so; all hear the same."""
        if self.world == 1:
            return said
        votes = torch.tensor(float(said), device=self.device)
        distributed.all_reduce(votes)
        return bool(votes > 0)

    def share(self, module: nn.Module) -> None:
        """Gives every process the first one's parameters and buffers."""
        if self.world > 1:
            for part in module.state_dict().values():
                distributed.broadcast(part, 0)
