"""Files that appear under their name only once they are whole."""

from __future__ import annotations

import os
from pathlib import Path

from client.errors import OutputError


class WholeFile:
    """A file being written beside its place; ``keep`` puts it there, ``discard`` removes it.

    What is written goes to ``temporary``. Where ``path`` is a link, its place is where that
    leads, and the link stays. A pipe or a device is no file to put anything in the place of: it
    is itself what is written to (``direct``), and neither replaced nor removed. Raises
    :class:`~client.errors.OutputError` where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            # Asked of the path as given: where /dev/stdout leads may be a name of nothing.
            self.direct = self.path.exists() and not self.path.is_file()
            self.place = self.path if self.direct else Path(os.path.realpath(path))
            self.temporary = self.place
            if self.path.is_dir() or self.path.is_socket() or not self.place.parent.is_dir():
                raise OutputError(f"{path}: no file can be written there; wanted a file's path")
            if not self.direct:
                self.temporary = self.place.with_name(f".{self.place.name}.part")
                self.temporary.touch()
            elif not os.access(self.path, os.W_OK):
                raise OutputError(f"{path}: cannot be written (no permission to)")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None

    def keep(self) -> None:
        if not self.direct:
            self.temporary.replace(self.place)

    def discard(self) -> None:
        if not self.direct:
            self.temporary.unlink(missing_ok=True)
