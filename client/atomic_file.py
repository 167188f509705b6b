"""Files that appear under their name only when they are complete."""

import os
from pathlib import Path

from client.errors import OutputError


class AtomicFile:
    """A file that is written under a temporary name; ``commit`` renames it, ``discard`` removes it.

    Write to ``temporary``. Where ``path`` is a symbolic link, the file that the link points to is
    replaced, and the link stays. A pipe or a device cannot be replaced: ``direct`` is then true,
    ``temporary`` is the path itself, and ``commit`` and ``discard`` do nothing. Raises
    :class:`~client.errors.OutputError` where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            # The unresolved path: /dev/stdout may resolve to a name that does not exist.
            self.direct = self.path.exists() and not self.path.is_file()
            self.target = self.path if self.direct else Path(os.path.realpath(path))
            self.temporary = self.target
            if self.path.is_dir() or self.path.is_socket() or not self.target.parent.is_dir():
                raise OutputError(f"{path}: no file can be written there; wanted a file's path")
            if not self.direct:
                self.temporary = self.target.with_name(f".{self.target.name}.part")
                self.temporary.touch()
            elif not os.access(self.path, os.W_OK):
                raise OutputError(f"{path}: cannot be written (no permission to)")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None

    def commit(self) -> None:
        if not self.direct:
            self.temporary.replace(self.target)

    def discard(self) -> None:
        if not self.direct:
            self.temporary.unlink(missing_ok=True)
