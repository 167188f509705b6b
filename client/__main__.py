"""``python -m client``: streams a sound file, the microphone or many test streams to a KFusion
server; finds the face in a photo.

Exit codes: 0 success; 1 the server or the connection failed; 2 the command cannot be carried out;
130 interrupted. Of ``loadtest``: 1 the bound did not hold; 2 nothing could be measured.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

from client.cli.options import (
    check_file,
    check_outputs,
    emotion_of,
    emotion_weight,
    fraction,
    identity_id,
)
from client.cli.status import exit_code, print_note
from client.face_files import read_identity
from client.loadtest.command import add_options
from client.sinks import WANTED
from client.stream.websocket import stream_url
from kfusion import __version__
from kfusion.errors import BadOptions, Busy, ConnectionFailed, KFusionError, run_command

DEFAULT_URL: Final = "ws://127.0.0.1:8765"
COMMANDS: Final = {  # the module whose run() carries each out; imported when it is used
    "file": "client.cli.file",
    "mic": "client.cli.mic",
    "say": "client.cli.say",
    "replay": "client.cli.replay",
    "identity": "client.cli.identity",
    "loadtest": "client.loadtest.command",
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="kfusion-client", description=__doc__)
    p.add_argument("--version", action="version", version=f"kfusion {__version__}")
    commands = p.add_subparsers(dest="command", required=True)
    server, sinks = _server_options(), _sink_options()
    stream = _stream_options(server, sinks)

    file = commands.add_parser("file", parents=[stream], help="sound files, as fast as it goes")
    _add_file_options(file)

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
    _add_identity_options(identity)

    add_options(commands.add_parser("loadtest", parents=[server], help="many live streams, timed"))
    return p


def _server_options() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("--url", default=DEFAULT_URL, help="ws:// or wss:// (%(default)s)")
    p.add_argument(
        "--token",
        default=os.environ.get("KFUSION_TOKEN"),
        help="the server's token (default: the environment's KFUSION_TOKEN, if any)",
    )
    return p


def _sink_options() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("--out", metavar="FRAMES.jsonl", help="a JSON line per frame; - prints")
    p.add_argument(
        "--to", action="append", default=[], metavar="URL",
        help="a program that draws the face, at 30 frames a second; may be given again: "
        f"{WANTED.replace('%', '%%')}",
    )  # fmt: skip
    return p


def _stream_options(*parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False, parents=list(parents))
    p.add_argument(
        "--emotion", nargs="+", type=emotion_weight, default=[], metavar="NAME=WEIGHT",
        help="e.g. happy=0.7; the rest is neutral. Over time, in seconds of the sound: "
        "0-2:happy,2-5:happy=0.4+sad=0.6,7.5-:angry; neutral between spans, and each is reached "
        "within 0.3 s",
    )  # fmt: skip
    p.add_argument(
        "--identity", type=Path, metavar="FACE.json",
        help="68 points of a face at rest; frames are in its coordinates",
    )  # fmt: skip
    p.add_argument("--hop", type=int, default=3, help="frames a step (%(default)s)")
    p.add_argument("--lookahead", type=int, default=3, help="frames (%(default)s)")
    p.add_argument(
        "--life", type=fraction, metavar="0..1",
        help="blinks, brow accents, head motion (1 with a program that draws, else 0)",
    )  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="another life (%(default)s)")
    p.add_argument("--record", type=Path, metavar="FILE.kfr", help="the whole stream, for `replay`")
    return p


def _add_file_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "audio", type=Path, nargs="+",
        help="WAV, FLAC, Ogg, MP3, or what FFmpeg reads. Of several, --out, --video, --record "
        "and --to jsonl: have {name} where each one's name goes: --out 'frames/{name}.jsonl'",
    )  # fmt: skip
    p.add_argument("--video", type=Path, metavar="PREVIEW.mp4", help="the face, with sound")
    p.add_argument(
        "--photo", type=Path, metavar="ME.jpg",
        help="this face speaks in the video; --identity has its points, in the photo's pixels",
    )  # fmt: skip
    p.add_argument("--portrait", metavar="NAME", help="one of the page's portraits speaks in it")


def _add_identity_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("photo", type=Path, help="JPEG, PNG, or what Pillow reads")
    p.add_argument(
        "--out", metavar="FACE.json", help="68 points in the upright photo's pixels (printed)"
    )
    p.add_argument(
        "--id", type=identity_id, metavar="NAME",
        help="under which the server keeps the face for the token's holders, as long as it has "
        "room (a name made from the photo)",
    )  # fmt: skip
    p.add_argument(
        "--local", action="store_true", help="find it here, with kfusion[face], and ask no server"
    )


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, checked as far as possible without a server."""
    p = parser()
    a = p.parse_args(argv)
    try:
        if a.command == "replay":
            if not 0 <= a.speed < float("inf"):
                raise BadOptions(f"--speed {a.speed}: wanted 0 or more")
        else:
            _check_url(a.url)
        if a.command in ("say", "mic", "replay"):
            check_outputs(a)
        elif a.command == "file":
            check_file(a)
    except BadOptions as error:
        p.error(str(error))
    if a.command in ("file", "say", "mic"):
        a.emotion = emotion_of(a.emotion)
        a.face = None if a.identity is None else read_identity(a.identity)
    return a


def _check_url(url: str) -> None:
    try:
        stream_url(url)
    except ConnectionFailed as error:
        raise BadOptions(f"--url {error}") from None


def _run(argv: Sequence[str] | None) -> int:
    a = arguments(argv)
    try:
        return import_module(COMMANDS[a.command]).run(a) or 0
    except KFusionError as error:
        retry = f"; try again in {error.retry_after_s} s" if isinstance(error, Busy) else ""
        print_note(f"{error}{retry}")
        return 2 if a.command == "loadtest" else exit_code(error)
    except BrokenPipeError:
        # The reader of standard output has closed it: no message, and none when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    return run_command("kfusion-client", partial(_run, argv))


if __name__ == "__main__":
    raise SystemExit(main())
