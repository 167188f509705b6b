"""``python -m client.parts``: fetches what the page needs to find a face in a photo.

It copies files of two npm packages, 2.6 MB together, into ``client/viewer/vendor``:
@vladmandic/face-api (MIT), one script and two small models, and the WebAssembly backend of
TensorFlow.js (Apache-2.0), which runs them without a graphics card. npm checks the versions and
the SHA-512 that ``client/viewer/package-lock.json`` has. Everything else works without them.

Standard library only: the build of a wheel runs this file before anything is installed.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

VIEWER: Final = Path(__file__).resolve().parent / "viewer"
FOLDER: Final = VIEWER / "vendor"
SOURCES: Final = (  # in node_modules
    "@vladmandic/face-api/dist/face-api.esm.js",
    "@vladmandic/face-api/model/tiny_face_detector_model-weights_manifest.json",
    "@vladmandic/face-api/model/tiny_face_detector_model.bin",
    "@vladmandic/face-api/model/face_landmark_68_model-weights_manifest.json",
    "@vladmandic/face-api/model/face_landmark_68_model.bin",
    "@vladmandic/face-api/LICENSE",
    # of the same version as the TensorFlow.js in face-api
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm",
)
FILES: Final = tuple(Path(source).name for source in SOURCES)
NPM_CI: Final = "ci --ignore-scripts --omit=peer --no-audit --loglevel=error --fetch-retries=1"
WAIT_S: Final = 120.0


class PartsMissing(Exception):
    """The face finder cannot be fetched; the message says why, and what would help."""


def present(folder: Path = FOLDER) -> bool:
    """Whether all the files are there."""
    return all((folder / name).is_file() for name in FILES)


def fetch(folder: Path = FOLDER) -> None:
    """Puts the files into ``folder``, all of them or none. Raises :class:`PartsMissing`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory() as project,
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=".vendor") as scratch,
        ):
            _install(Path(project))
            fresh = Path(scratch) / "vendor"
            fresh.mkdir()
            for source, name in zip(SOURCES, FILES, strict=True):
                shutil.copyfile(Path(project, "node_modules", source), fresh / name)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.replace(folder)
    except OSError as error:
        raise PartsMissing(
            f"{error.filename or folder}: {error.strerror or error}; wanted a folder that can be "
            "written, and room on the disk: run this as the user who installed KFusion"
        ) from None


def _install(project: Path) -> None:
    """Installs the locked packages into ``node_modules`` of a new folder, outside the page's."""
    npm = shutil.which("npm")
    if npm is None:
        raise PartsMissing("npm is not installed; with it (it comes with Node.js), run this again")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(VIEWER / name, project)
    try:
        done = subprocess.run(
            [npm, *NPM_CI.split()], cwd=project, capture_output=True, text=True,
            timeout=WAIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PartsMissing(f"npm gave no answer within {WAIT_S:.0f} s; try again later") from None
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise PartsMissing(f"npm could not fetch it: {' '.join(output) or 'no word why'}")


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
