"""KFusion: live speech to 68-point facial landmarks.

``kfusion.load().animate("speech.wav")`` for whole files; the packages ``server`` and ``client``
for live streams. Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfusion.runtime import Animator as Animator
    from kfusion.runtime import load as load

__version__ = "0.3.0"
__all__ = ["Animator", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from kfusion import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module 'kfusion' has no attribute {name!r}")
