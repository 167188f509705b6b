"""Files that appear under their name only once they are whole."""

from __future__ import annotations

from pathlib import Path

from client.errors import OutputError


class WholeFile:
    """A file being written beside its place; ``keep`` puts it there, ``discard`` removes it.

    Raises :class:`~client.errors.OutputError` where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.part")
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise OutputError(f"{path}: no file can be written there; wanted a file's path")
        try:
            self.temporary.touch()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None

    def keep(self) -> None:
        self.temporary.replace(self.path)

    def discard(self) -> None:
        self.temporary.unlink(missing_ok=True)
