"""What the documents show runs.

A block is executed here, or a comment before it says why not (tests/system/docs/documents.py).
"""

import ast
import inspect
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile
from PIL import Image

from client.audio.speaker import Fill
from client.face_files import read_portrait
from kfusion import wire
from kfusion.errors import WireError
from kfusion.landmarks import NEUTRAL
from tests.conftest import RunningServer, program, voice
from tests.page.browser import chromium
from tests.system.docs.documents import (
    MARK,
    ROOT,
    Block,
    blocks,
    documents,
    spans,
)
from tests.system.docs.shell import Shell

Names = dict[str, Any]
LANGUAGES: Final = ("shell", "python", "javascript", "json client", "json server", "text")
EVERY: Final = [block for path in documents() for block in blocks(path)]
RATES: Final = {"sound.md": 24_000}  # of the samples that a document's Python is given


def of(language: str) -> list[Block]:
    return [b for b in EVERY if b.language.split()[0] == language and not b.skipped]


def by_document(language: str) -> list[Any]:
    found: dict[Path, list[Block]] = {}
    for block in of(language):
        found.setdefault(block.path, []).append(block)
    return [pytest.param(b, id=str(p.relative_to(ROOT))) for p, b in found.items()]


def test_every_block_says_what_it_is_or_why_it_is_not_run() -> None:
    assert len(EVERY) > 50
    for block in EVERY:
        assert block.language in LANGUAGES, f"{block.place}: {block.language!r}"
    for path in documents():
        said = len(re.findall(r"^\s*<!--\s*not run", path.read_text("utf-8"), re.MULTILINE))
        heard = sum(b.skipped or bool(b.without) for b in blocks(path))
        assert said == heard, f"{path}: {MARK.pattern}, on the line before a block"


# What is typed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, synthetic_server: RunningServer) -> Path:
    """Where the commands run: with the files that they name."""
    made = tmp_path_factory.mktemp("documents")
    for name in ("speech.wav", "talk.wav"):
        soundfile.write(made / name, voice(1.0), 16_000)
    for name in ("frames", "videos"):
        (made / name).mkdir()
    pixels, points = read_portrait("mira")
    Image.fromarray(pixels).save(made / "me.jpg")
    (made / "me.json").write_text(json.dumps({"points": points.tolist()}))
    (made / "face.json").write_text(json.dumps(NEUTRAL.tolist()))
    Shell(made, synthetic_server.port).run(
        "python -m client file speech.wav --out frames.jsonl --record session.kfr"
    )
    return made


@pytest.mark.parametrize("typed", by_document("shell"))
def test_the_commands_run(
    typed: list[Block], folder: Path, synthetic_server: RunningServer
) -> None:
    for block in typed:
        for name in ("openssl", "curl"):
            if f"{name} -" in block.text:
                program(name, name)
        with Shell(folder, synthetic_server.port) as shell:
            for command in block.commands():
                if not block.leaves_out(command):
                    shell.run(command, block.place)


# Python


class Loudspeaker:
    """In the place of the system's: takes sound at its pace, in a thread as PortAudio does."""

    name = "Test loudspeaker"
    underruns = 0

    def __init__(self, device: object = None) -> None:
        self.over = threading.Event()

    def start(self, audio: wire.AudioFormat, fill: Fill, gone: Callable[[], None]) -> None:
        block, begun = audio.rate // 50, time.monotonic()

        def play() -> None:
            for k in range(10_000):
                if self.over.wait(max(0.0, begun + k / 50 - time.monotonic())):
                    return
                fill(block, begun + k / 50 + 0.1)

        self.thread = threading.Thread(target=play)
        self.thread.start()

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


@pytest.fixture
def given(synthetic_server: RunningServer) -> Names:
    """The names that a piece of code may take for granted."""
    drawn: list[Any] = []
    return {
        "url": f"ws://127.0.0.1:{synthetic_server.port}",
        "samples": voice(1.0),
        "frames": np.repeat(NEUTRAL[None].astype(np.float32), 30, axis=0),
        "drawn": drawn,
        "draw": drawn.append,
    }


async def execute(block: Block, given: Names, port: int) -> Names:
    """Runs a block as if typed into ``python -m asyncio``, then its ``main``; gives its names."""
    text = block.text.replace("127.0.0.1:8765", f"127.0.0.1:{port}")
    code = compile(text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: Names = {"__name__": "a_document", **given}
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running
    if main := names.get("main"):
        await main(**{name: given[name] for name in inspect.signature(main).parameters})
    return names


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "block",
    [pytest.param(b, id=b.place) for b in of("python") if b.path.name != "zeromq.md"],
)
async def test_the_python_runs(
    block: Block,
    given: Names,
    folder: Path,
    synthetic_server: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("client.audio.player.Speaker", Loudspeaker)
    rate = RATES.get(block.path.name, 16_000)
    given["samples"] = voice(1.0, rate)
    names = await execute(block, given, synthetic_server.port)
    for text, check in CHECKS.items():
        if text in block.text:
            assert check({**names, "printed": capsys.readouterr().out}), text


def check_model(names: Names) -> bool:
    face = np.asarray(names["identity"])
    corners = names["landmarks"][0, -1, [48, 54], 1].numpy() - face[0, [48, 54], 1]
    assert "CC BY 4.0" in names["provenance"]["licence"]
    return tuple(names["landmarks"].shape) == (1, 30, 68, 2) and bool((corners < 0).all())  # happy


def check_live_client(names: Names) -> bool:
    lines = names["printed"].splitlines()
    return len(lines) == 30 and lines[-1].endswith("(68, 2)")


def check_wire(names: Names) -> bool:
    lines = names["printed"].splitlines()
    assert lines[0] == "synthetic 200.0 ms"
    return lines[1].startswith("frames 0 to 2 [") and json.loads(lines[-1])["frames"] == 30


# A part of a block's code: what its names are to be, once it has run.
CHECKS: Final[dict[str, Callable[[Names], bool]]] = {
    "load_model": check_model,
    "print(frame.n, frame.t": check_live_client,
    "print(frames.shape)": lambda names: names["frames"].shape == (30, 68, 2),
    'struct.unpack_from("<HQ", message, 6)': check_wire,
    # A frame that is late is passed over.
    "player.say": lambda names: 25 <= len(names["drawn"]) <= 33,
    "def frames_of": lambda names: len(names["frames_of"]("session.kfr")) == 30,
    "careful =": lambda names: names["quick"].shape == names["careful"].shape == (30, 68, 2),
    "engine.step": lambda names: names["faces"].shape == (30, 68, 2),
    "Bridge([": lambda names: [s.sent + s.lost >= 30 for s in names["bridge"].sinks] == [True] * 2,
    "rig.arkit52": lambda names: names["values"].shape == (30, 52) and names["jaw"].max() < 1e-6,
}


def test_every_check_is_of_some_block() -> None:
    for text in CHECKS:
        assert [b for b in of("python") if text in b.text and not b.skipped], text


# JSON


def whole(value: Any) -> Any:
    """A shortened list, [..., "..."], at its length: 68 pairs or 136 numbers."""
    if isinstance(value, dict):
        return {name: whole(part) for name, part in value.items()}
    if not isinstance(value, list):
        return value
    parts: list[Any] = list(value)
    if parts[-1:] != ["..."] or isinstance(parts[0], str):
        return [whole(part) for part in parts]
    del parts[-1]
    more = NEUTRAL if isinstance(parts[0], list) else NEUTRAL.flatten()
    return [*parts, *more[len(parts) :].tolist()]


def messages(block: Block) -> list[Any]:
    found: list[Any] = []
    text, decoder = block.text.strip(), json.JSONDecoder()
    while text:
        message, end = decoder.raw_decode(text)
        found.append(whole(message))
        text = text[end:].strip()
    return found


@pytest.mark.parametrize("block", [pytest.param(b, id=b.place) for b in of("json")])
def test_the_messages_are_the_protocols(block: Block) -> None:
    schema: Any = wire.Start
    for message in messages(block):
        ours = block.language == "json client"
        parsed = wire.parse_client(json.dumps(message)) if ours else None
        parsed = parsed or wire.parse_server(json.dumps(message))
        assert parsed is not None, message
        schema = type(parsed)
        assert set(message) - {"type"} <= set(schema.__struct_fields__), message


def test_the_protocols_every_word_is_explained() -> None:
    path = ROOT / "docs" / "protocol.md"
    text = path.read_text("utf-8")
    shown = {
        side: {m["type"] for b in blocks(path) if b.language == side for m in messages(b)}
        for side in ("json client", "json server")
    }
    assert shown["json client"] == {
        "start", "silence", "emotion", "identity", "mark", "reset", "end",
    }  # fmt: skip
    assert shown["json server"] == set(wire.SERVER_TYPES) - {"answer"}  # of webrtc.md
    codes = {cls.code for cls in WireError.__subclasses__()}
    reasons = {"slow_reader", "overload", "reset", "resume"}
    fields = {*wire.Start.__struct_fields__, *wire.Ready.__struct_fields__}
    for word in codes | reasons | fields:
        assert re.search(rf"\b{word}\b", text), word


@pytest.mark.asyncio
async def test_a_server_takes_the_clients_examples(synthetic_server: RunningServer) -> None:
    from websockets.asyncio.client import connect as open_socket

    examples = [m for b in of("json") if b.language == "json client" for m in messages(b)]
    (start,) = (m for m in examples if m["type"] == "start" and "resume" not in m)
    async with open_socket(synthetic_server.url) as socket:
        await socket.send(json.dumps(start))
        await socket.send(bytes(2 * 48_000))
        for message in examples:
            if message["type"] != "start" and "image" not in message:
                await socket.send(json.dumps(message))
        heard = [m async for m in socket]
    types = [json.loads(m)["type"] for m in heard if isinstance(m, str)]
    assert "error" not in types and types[0] == "ready" and types[-1] == "end"
    assert {"emotion", "identity", "mark", "reset"} <= set(types)


def test_the_messages_within_sentences_are_the_protocols() -> None:
    said = [code for path in documents() for code in spans(path) if code.startswith('{"type": ')]
    examples = [code for code in said if "..." not in code]
    assert len(examples) > 2
    for code in examples:
        assert wire.parse_client(code), code


# JavaScript


@pytest.mark.browser
@pytest.mark.parametrize("block", [pytest.param(b, id=b.place) for b in of("javascript")])
def test_the_javascript_runs_in_a_page(
    block: Block, folder: Path, tmp_path: Path, synthetic_server: RunningServer
) -> None:
    text = block.text.replace("127.0.0.1:8765", f"127.0.0.1:{synthetic_server.port}")
    with chromium(folder / "speech.wav", tmp_path / "profile") as chrome:
        chrome.get(f"{synthetic_server.http}/v1/schema.json")
        drawn = chrome.execute_async_script(
            "const done = arguments[0], drawn = [], draw = (points) => drawn.push(points.length);"
            + text
            + """
            socket.addEventListener("open", () => {
              socket.send(new Int16Array(48000));
              socket.send(JSON.stringify({type: "end"}));
            });
            socket.addEventListener("close", () => done(drawn));
            """
        )
    assert drawn == [136] * 30
