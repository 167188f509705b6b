"""``python -m client.portraits [NAME ...] [--out FOLDER]``: paints the viewer's portraits.

Writes NAME.webp for each, and portraits.json: a list of ``{"name", "label", "image", "points"}``,
the points being the 68 landmarks in the picture's pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from client.portraits.canvas import Canvas
from client.portraits.layout import landmarks
from client.portraits.looks import LOOKS, Look
from client.portraits.paint import portrait

FOLDER: Final = Path(__file__).parents[1] / "viewer" / "portraits"
LIST: Final = "portraits.json"
MOST_BYTES: Final = 68_000


def packed(picture: Image.Image, most: int = MOST_BYTES) -> bytes:
    """``picture`` as WebP, at the best quality that takes at most ``most`` bytes."""
    for quality in range(97, 20, -2):
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality, method=6)
        if file.tell() <= most:
            return file.getvalue()
    raise ValueError(f"a picture of {picture.size} does not fit into {most} bytes")


def entry(look: Look) -> dict[str, Any]:
    """What the page reads about a portrait."""
    points = landmarks(look, Canvas.of(look.scale)).round(2).tolist()
    return {"name": look.name, "label": look.label, "image": f"{look.name}.webp", "points": points}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m client.portraits", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of those to paint (all)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder to write to")
    args = parser.parse_args(argv)
    wanted: list[str] = args.names or [look.name for look in LOOKS]
    unknown = sorted(set(wanted) - {look.name for look in LOOKS})
    if unknown:
        known = ", ".join(look.name for look in LOOKS)
        sys.stderr.write(f"kfusion-portraits: no portrait {unknown[0]!r}; there are {known}\n")
        sys.exit(2)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    for look in LOOKS:
        if look.name in wanted:
            data = packed(portrait(look))
            (out / f"{look.name}.webp").write_bytes(data)
            print(f"{out / look.name}.webp: {len(data)} bytes")
    lines = ",\n".join(json.dumps(entry(look)) for look in LOOKS)
    (out / LIST).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
