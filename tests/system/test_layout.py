"""Files and folders that a reader can take in."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import program

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """The files of the repository, without those that were deleted from the working tree."""
    git = program("git", "git")
    done = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    return [Path(name) for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_folder_holds_more_than_twenty_files(tracked: list[Path]) -> None:
    counts = Counter(path.parent for path in tracked)
    assert {folder: n for folder, n in counts.items() if n > 20} == {}


def test_no_source_file_has_more_than_400_lines(tracked: list[Path]) -> None:
    sources = [path for path in tracked if path.suffix in (".py", ".js")]
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in sources}
    assert {path: n for path, n in lengths.items() if n > 400} == {}
