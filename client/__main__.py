"""``python -m client``: streams a sound file, the microphone or a crowd to a KFusion server; finds
the face of a photo.

Exit codes: 0 done; 1 the server or the connection failed; 2 what was asked cannot be done;
130 interrupted. Of ``loadtest``: 1 the bound did not hold; 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from client.cli.output_paths import check_places, jobs_of, written
from client.face_files import read_identity
from client.loadtest.command import add_options
from client.sinks import WANTED
from client.stream.transports import address
from kfusion import __version__
from kfusion.emotion_timeline import Score
from kfusion.errors import (
    BadEmotion,
    BadOptions,
    Busy,
    ConnectionFailed,
    KFusionError,
    Unauthorized,
)

DEFAULT_URL: Final = "ws://127.0.0.1:8765"


def weight(text: str) -> tuple[str, float]:
    """``happy=0.7`` -> ("happy", 0.7)."""
    name, equals, number = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted NAME=WEIGHT, e.g. happy=0.7") from None


def feeling(text: str) -> tuple[str, float] | str:
    """``happy=0.7`` as :func:`weight` has it; spans of time, ``0-2:happy``, as they are."""
    return text if ":" in text else weight(text)


def emotion_of(given: Sequence[tuple[str, float] | str]) -> dict[str, float] | Score:
    """What ``--emotion`` means. Raises :class:`~kfusion.errors.BadEmotion`."""
    spans = [text for text in given if isinstance(text, str)]
    if not spans:
        return dict(pair for pair in given if not isinstance(pair, str))
    if len(spans) < len(given):
        raise BadEmotion("--emotion: weights and spans of time; wanted either, e.g. 0-2:happy")
    return Score.parse(",".join(text.strip(",") for text in spans))


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 0 to 1")
    return number


def name_of_face(text: str) -> str:
    """An id that a server takes."""
    if not 1 <= len(text) <= 256 or text == "neutral":
        raise argparse.ArgumentTypeError(f"{text!r}: wanted 1 to 256 characters, not neutral")
    return text


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="kfusion-client", description=__doc__)
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    commands = p.add_subparsers(dest="command", required=True)
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument("--url", default=DEFAULT_URL, help="ws:// or wss:// (%(default)s)")
    server.add_argument(
        "--token",
        default=os.environ.get("KFUSION_TOKEN"),
        help="the server's token (default: the environment's KFUSION_TOKEN, if any)",
    )
    sinks = argparse.ArgumentParser(add_help=False)
    sinks.add_argument("--out", metavar="FRAMES.jsonl", help="a JSON line per frame; - prints")
    sinks.add_argument(
        "--to", action="append", default=[], metavar="URL",
        help="a program that draws the face, at 30 frames a second; may be given again: "
        f"{WANTED.replace('%', '%%')}",
    )  # fmt: skip
    stream = argparse.ArgumentParser(add_help=False, parents=[server, sinks])
    stream.add_argument(
        "--emotion", nargs="+", type=feeling, default=[], metavar="NAME=WEIGHT",
        help="e.g. happy=0.7; the rest is neutral. Over time, in seconds of the sound: "
        "0-2:happy,2-5:happy=0.4+sad=0.6,7.5-:angry; neutral between spans, and each is reached "
        "within 0.3 s",
    )  # fmt: skip
    stream.add_argument(
        "--identity", type=Path, metavar="FACE.json",
        help="68 points of a face at rest; frames are in its coordinates",
    )  # fmt: skip
    stream.add_argument("--hop", type=int, default=3, help="frames a step (%(default)s)")
    stream.add_argument("--lookahead", type=int, default=3, help="frames (%(default)s)")
    stream.add_argument(
        "--life", type=share, metavar="0..1",
        help="blinks, brow accents, head motion (1 with a program that draws, else 0)",
    )  # fmt: skip
    stream.add_argument("--seed", type=int, default=0, help="another life (%(default)s)")
    stream.add_argument(
        "--record", type=Path, metavar="FILE.kfr", help="the whole stream, for `replay`"
    )

    file = commands.add_parser("file", parents=[stream], help="sound files, as fast as it goes")
    file.add_argument(
        "audio", type=Path, nargs="+",
        help="WAV, FLAC, Ogg, MP3, or what FFmpeg reads. Of several, --out, --video, --record "
        "and --to jsonl: have {name} where each one's name goes: --out 'frames/{name}.jsonl'",
    )  # fmt: skip
    file.add_argument("--video", type=Path, metavar="PREVIEW.mp4", help="the face, with sound")
    file.add_argument(
        "--photo", type=Path, metavar="ME.jpg",
        help="this face speaks in the video; --identity has its points, in the photo's pixels",
    )  # fmt: skip
    file.add_argument("--portrait", metavar="NAME", help="one of the page's portraits speaks in it")

    mic = commands.add_parser("mic", parents=[stream], help="the microphone, live; Ctrl-C ends")
    mic.add_argument("--device", help="an input device's number or name (the system's default)")
    mic.add_argument("--list", action="store_true", help="lists the input devices")

    say = commands.add_parser("say", parents=[stream], help="a sound file, heard and seen together")
    say.add_argument("audio", type=Path, help="WAV, FLAC, Ogg, MP3, or what FFmpeg reads")
    say.add_argument("--device", help="an output device's number or name (the system's default)")
    say.add_argument(
        "--lead", type=float, default=0.0, metavar="MS",
        help="gives frames so much before their sound: what drawing them takes (%(default)s)",
    )  # fmt: skip

    replay = commands.add_parser("replay", parents=[sinks], help="a recorded stream once more")
    replay.add_argument("recording", type=Path, metavar="FILE.kfr")
    replay.add_argument(
        "--speed", type=float, default=1.0, help="times as fast; 0: at once (%(default)s)"
    )

    identity = commands.add_parser(
        "identity", parents=[server], help="a photo's face, for --identity"
    )
    identity.add_argument("photo", type=Path, help="JPEG, PNG, or what Pillow reads")
    identity.add_argument(
        "--out", metavar="FACE.json", help="68 points in the upright photo's pixels (printed)"
    )
    identity.add_argument(
        "--id", type=name_of_face, metavar="NAME",
        help="under which the server keeps the face for the token's holders, as long as it has "
        "room (a name made from the photo)",
    )  # fmt: skip
    identity.add_argument(
        "--local", action="store_true", help="find it here, with kfusion[face], and ask no server"
    )

    add_options(commands.add_parser("loadtest", parents=[server], help="many live streams, timed"))
    return p


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked as far as they can be without a server."""
    p = parser()
    a = p.parse_args(argv)
    if a.command == "replay":
        if not 0 <= a.speed < float("inf"):
            p.error(f"--speed {a.speed}: wanted 0 or more")
    else:
        try:
            address(a.url)
        except ConnectionFailed as error:
            p.error(f"--url {error}")
    if a.command in ("say", "mic", "replay"):
        _check_places(a, p)
    if a.command in ("loadtest", "replay", "identity"):
        return a
    a.emotion = emotion_of(a.emotion)
    if a.command == "file":
        _check_file(a, p)
    a.face = None if a.identity is None else read_identity(a.identity)
    return a


def _check_places(a: argparse.Namespace, p: argparse.ArgumentParser) -> None:
    """Of one sound, or none; of several jobs_of does it."""
    read = {"say": "audio", "replay": "recording"}.get(a.command)
    files = written(a.out, None, getattr(a, "record", None), a.to)
    try:
        check_places([path for _, path in files], [getattr(a, read)] if read else [])
    except BadOptions as error:
        p.error(str(error))


def _check_file(a: argparse.Namespace, p: argparse.ArgumentParser) -> None:
    if a.out is None and a.video is None and not a.to:
        p.error("nothing to write; give --out FRAMES.jsonl, --video PREVIEW.mp4 or --to URL")
    if a.video is not None and a.video.suffix.lower() != ".mp4":
        p.error(f"--video {a.video}: wanted a name that ends in .mp4")
    for option, given in (("--photo", a.photo), ("--portrait", a.portrait)):
        if given is not None and a.video is None:
            p.error(f"{option} is for the video; give --video PREVIEW.mp4 too")
    if a.portrait is not None and (a.photo is not None or a.identity is not None):
        p.error("--portrait has its own picture and points; wanted it without the others")
    if a.photo is not None and a.identity is None:
        p.error(
            f"--photo {a.photo}: where is the face in it? `python -m client identity {a.photo} "
            "--out face.json` finds its points, and the page saves them; then give --identity "
            "face.json"
        )
    try:
        a.jobs = jobs_of(a.audio, a.out, a.video, a.record, a.to)
    except BadOptions as error:
        p.error(str(error))


def _code(error: KFusionError, command: str) -> int:
    failed = error.fault == "server" or isinstance(error, Unauthorized)
    return 1 if failed and command != "loadtest" else 2


def main(argv: Sequence[str] | None = None) -> int:
    command = ""
    try:
        a = arguments(argv)
        command = a.command
        if command == "loadtest":
            from client.loadtest.command import run as load

            return load(a)
        if command == "file":
            from client.cli.file import run as files

            return files(a)
        if command == "say":
            from client.cli.say import run
        elif command == "replay":
            from client.cli.replay import run
        elif command == "identity":
            from client.cli.identity import run
        else:
            from client.cli.mic import run
        run(a)
    except Busy as error:
        print(f"kfusion-client: {error}; try again in {error.retry_after_s} s", file=sys.stderr)
        return _code(error, command)
    except KFusionError as error:
        print(f"kfusion-client: {error}", file=sys.stderr)
        return _code(error, command)
    except BrokenPipeError:
        # Whoever read our output has gone: say nothing, at the exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"kfusion-client: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
