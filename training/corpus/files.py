"""The files under a folder: links are followed, names are checked, Git LFS pointers are known."""

import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

from kfusion.errors import DataError

_LFS: Final = b"version https://git-lfs.github.com/spec/"
NOT_UTF8: Final = "its path is not UTF-8; wanted it renamed"
_LFS_MOST: Final = 1024  # bytes of a pointer, by Git LFS's specification


def printable(name: str | PurePath) -> str:
    """The name; bytes of it that are not UTF-8 as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_fetched(path: Path) -> None:
    """DataError where the file is what Git LFS leaves in place of one that was not fetched."""
    try:
        with path.open("rb") as file:
            pointer = file.read(len(_LFS)) == _LFS and path.stat().st_size <= _LFS_MOST
    except OSError:
        return  # whoever reads it says so
    if pointer:
        raise DataError(
            "is a Git LFS pointer, not the file itself; wanted the file, which git lfs pull fetches"
        )


@dataclass
class Tree:
    """The files of a folder by where they really are, each under every path that leads to it.

    Paths are relative to the folder and sorted, those without a link first. ``passed_over`` are
    (name, reason) of files and folders that cannot be used.
    """

    files: dict[str, list[PurePosixPath]] = field(default_factory=dict[str, list[PurePosixPath]])
    passed_over: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def files_under(folder: Path, suffixes: Collection[str]) -> Tree:
    """The files with one of the suffixes (lower case), in folders that are links too.

    Each link is followed once, and never to a folder that it lies in. Hidden files and folders are
    left out. Raises :class:`~kfusion.errors.DataError` where there is no folder, and where its path
    is not UTF-8.
    """
    if not folder.is_dir():
        raise DataError(
            f"{printable(folder)}: is no folder; wanted one with videos or ready-made tracks"
        )
    if printable(folder.absolute()) != str(folder.absolute()):
        raise DataError(f"{printable(folder.absolute())}: {NOT_UTF8}")
    tree = Tree()
    found: list[tuple[bool, PurePosixPath, str]] = []
    followed: set[str] = set()
    waiting = deque([(PurePosixPath(), os.path.realpath(folder), False)])
    while waiting:
        above, place, linked = waiting.popleft()
        try:
            entries = sorted(os.scandir(folder / above), key=lambda e: e.name)
        except OSError as error:
            tree.passed_over.append((printable(above), f"cannot be opened ({error.strerror})"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path, here = above / entry.name, os.path.join(place, entry.name)  # noqa: PTH118
            is_link = entry.is_symlink()
            real = os.path.realpath(here) if is_link else here
            if os.path.isdir(real):  # noqa: PTH112 - False for a link in a circle
                if is_link and (here in followed or PurePath(here).is_relative_to(real)):
                    continue
                if is_link:
                    followed.add(here)
                waiting.append((path, real, linked or is_link))
            elif is_link and not os.path.exists(real):  # noqa: PTH110
                if path.suffix.lower() in {"", *suffixes}:
                    tree.passed_over.append((printable(path), "is a link to what is not there"))
            elif path.suffix.lower() in suffixes:
                if printable(path) == str(path):
                    found.append((linked or is_link, path, real))
                else:
                    tree.passed_over.append((printable(path), NOT_UTF8))
    for _, path, real in sorted(found):
        tree.files.setdefault(real, []).append(path)
    tree.passed_over.sort()
    return tree
