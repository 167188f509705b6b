"""``python -m client.parts``: fetches what the page needs to find a face in a photo.

They are two packages of npm's: @vladmandic/face-api (MIT), one script and two small models, and the
part of TensorFlow.js (Apache-2.0) that runs them without a graphics card; 2.6 MB together, laid
into ``client/viewer/vendor``. Each is pinned by its version and by the SHA-512 of its bytes, so
that whoever hands it out cannot change it. Everything else works without.

Standard library only: the build of a wheel runs this file before anything is installed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final, NamedTuple


class Package(NamedTuple):
    """One of npm's: ``files`` of it, and the names that they get."""

    name: str
    sha512: str
    files: dict[str, str]


FACE_API: Final = Package(
    "@vladmandic/face-api@1.7.15",
    "5833262b709f34ba3c8f2956a8ca1081fe2722cb773347f3c7576769cf7ac2ff"
    "ddbcc4cde03c42fcfab50c6b5db83935964b426a64373080d7167beb7474d70f",
    {
        "package/dist/face-api.esm.js": "face-api.esm.js",
        "package/model/tiny_face_detector_model-weights_manifest.json": (
            "tiny_face_detector_model-weights_manifest.json"
        ),
        "package/model/tiny_face_detector_model.bin": "tiny_face_detector_model.bin",
        "package/model/face_landmark_68_model-weights_manifest.json": (
            "face_landmark_68_model-weights_manifest.json"
        ),
        "package/model/face_landmark_68_model.bin": "face_landmark_68_model.bin",
        "package/LICENSE": "LICENSE",
    },
)
WASM: Final = Package(  # of the version of TensorFlow.js that is within face-api
    "@tensorflow/tfjs-backend-wasm@4.22.0",
    "fc862145e448a788e0ff0616d0ec1b6c9646f0e37cee66f3d0f82488fdc275c0"
    "02452bd437487caef0b43b761c0ed91342d15617fb5c5eafca9550f2578f7098",
    {
        f"package/dist/{name}": name
        for name in ("tfjs-backend-wasm-simd.wasm", "tfjs-backend-wasm.wasm")
    },
)
PACKAGES: Final = (FACE_API, WASM)
FILES: Final = tuple(name for package in PACKAGES for name in package.files.values())
FOLDER: Final = Path(__file__).resolve().parent / "viewer" / "vendor"
WAIT_S: Final = 120.0


class PartsMissing(Exception):
    """The detector could not be had; the message says why, and what would help."""


def present(folder: Path = FOLDER) -> bool:
    """Whether all of it is there."""
    return all((folder / name).is_file() for name in FILES)


def fetch(folder: Path = FOLDER) -> None:
    """Lays the files into ``folder``, all of them or none. Raises :class:`PartsMissing`."""
    try:
        _fetch(folder)
    except OSError as error:
        raise PartsMissing(
            f"{error.filename or folder}: {error.strerror or error}; wanted a folder that can be "
            "written, and room on the disk: run this as the user who installed KFusion"
        ) from None


def _fetch(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".vendor") as scratch:
        fresh = Path(scratch) / "vendor"
        fresh.mkdir()
        for package in PACKAGES:
            with tempfile.TemporaryDirectory() as own:
                extract(package, packed(package, Path(own)), fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)


def packed(package: Package, scratch: Path) -> Path:
    """The package as npm's registry gives it, in ``scratch``. Raises :class:`PartsMissing`."""
    npm = shutil.which("npm")
    if npm is None:
        raise PartsMissing("npm is not installed; with it (it comes with Node.js), run this again")
    command = [npm, "pack", package.name, "--loglevel=error", "--ignore-scripts"]
    try:
        done = subprocess.run(
            [*command, "--fetch-retries=1"],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PartsMissing(f"npm gave no answer within {WAIT_S:.0f} s; try again later") from None
    found = list(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(found) != 1:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        why = " ".join(said) or "no word why"
        raise PartsMissing(f"npm could not fetch {package.name}: {why}")
    return found[0]


def extract(package: Package, archive: Path, folder: Path) -> None:
    """Lays the files of a fetched package into ``folder``. Raises :class:`PartsMissing` for any
    other bytes than those that were chosen.
    """
    if hashlib.sha512(archive.read_bytes()).hexdigest() != package.sha512:
        raise PartsMissing(
            f"{archive.name} has other bytes than {package.name} had when it was chosen; "
            "nothing of it was used"
        )
    with tarfile.open(archive) as tar:
        for member, name in package.files.items():
            source = tar.extractfile(member)
            if source is None:
                raise PartsMissing(f"{archive.name} lacks {member}")
            (folder / name).write_bytes(source.read())


def main() -> int:
    if present():
        print(f"The face finder is there already: {FOLDER}")
        return 0
    try:
        fetch()
    except PartsMissing as error:
        print(
            f"kfusion-parts: {error}\nEverything but photos of your own works without.",
            file=sys.stderr,
        )
        return 2
    print(f"The face finder is in {FOLDER}; reload the page.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
