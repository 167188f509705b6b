"""Values and checks of command-line options, and the stream that they describe."""

import argparse
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

from client.cli.output_paths import check_paths, output_files, plan_jobs
from client.sdk import Face, connect
from client.sinks.bridge import Bridge
from kfusion.audio import Format
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.errors import BadEmotion, BadOptions


def emotion_weight(text: str) -> tuple[str, float] | str:
    """An argparse type: ``happy=0.7`` -> ("happy", 0.7); spans, ``0-2:happy``, unchanged."""
    if ":" in text:
        return text
    name, equals, number = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted NAME=WEIGHT, e.g. happy=0.7") from None


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 0 to 1")
    return number


def identity_id(text: str) -> str:
    """An argparse type: an id that a server accepts."""
    if not 1 <= len(text) <= 256 or text == "neutral":
        raise argparse.ArgumentTypeError(f"{text!r}: wanted 1 to 256 characters, not neutral")
    return text


def emotion_of(values: Sequence[tuple[str, float] | str]) -> dict[str, float] | EmotionTimeline:
    """The value of ``--emotion``. Raises :class:`~kfusion.errors.BadEmotion`."""
    spans = [text for text in values if isinstance(text, str)]
    if not spans:
        return dict(pair for pair in values if not isinstance(pair, str))
    if len(spans) < len(values):
        raise BadEmotion("--emotion: weights and spans of time; wanted either, e.g. 0-2:happy")
    return EmotionTimeline.parse(",".join(text.strip(",") for text in spans))


def check_outputs(a: argparse.Namespace) -> None:
    """Checks the files that a command of one sound writes. Raises BadOptions."""
    source = {"say": "audio", "replay": "recording"}.get(a.command)
    files = output_files(a.out, None, getattr(a, "record", None), a.to)
    check_paths([path for _, path in files], [getattr(a, source)] if source else [])


def check_file(a: argparse.Namespace) -> None:
    """Checks the options of the command ``file`` and sets ``a.jobs``. Raises BadOptions."""
    if a.out is None and a.video is None and not a.to:
        raise BadOptions(
            "nothing to write; give --out FRAMES.jsonl, --video PREVIEW.mp4 or --to URL"
        )
    if a.video is not None and a.video.suffix.lower() != ".mp4":
        raise BadOptions(f"--video {a.video}: wanted a name that ends in .mp4")
    for option, value in (("--photo", a.photo), ("--portrait", a.portrait)):
        if value is not None and a.video is None:
            raise BadOptions(f"{option} is for the video; give --video PREVIEW.mp4 too")
    if a.portrait is not None and (a.photo is not None or a.identity is not None):
        raise BadOptions("--portrait has its own picture and points; wanted it without the others")
    if a.photo is not None and a.identity is None:
        raise BadOptions(
            f"--photo {a.photo}: where is the face in it? `python -m client identity {a.photo} "
            "--out face.json` finds its points, and the page saves them; then give --identity "
            "face.json"
        )
    a.jobs = plan_jobs(a.audio, a.out, a.video, a.record, a.to)


def connect_with_options(
    a: argparse.Namespace,
    bridge: Bridge,
    *,
    rate: int,
    record: Path | None,
    format: Format = "s16le",  # noqa: A002 - the protocol's word
    mode: Literal["live", "file"] = "live",
) -> AbstractAsyncContextManager[Face]:
    """Opens the stream that the options describe, with the outputs that ``bridge`` needs."""
    return connect(
        a.url,
        rate=rate,
        format=format,
        mode=mode,
        hop=a.hop,
        lookahead=a.lookahead,
        identity=a.face,
        emotion=a.emotion,
        outputs=bridge.outputs,
        life=bridge.life(a.life),
        seed=a.seed,
        token=a.token,
        record=record,
    )
