"""How a program ends: well, or with a line that says what could not be done."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kfusion.errors import KFusionError


def ended(name: str, work: Callable[[], None]) -> int:
    """Does the work; the exit status: 0, or 2 once the program ``name`` has told on stderr why it
    cannot be done.
    """
    try:
        work()
    except (KFusionError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
