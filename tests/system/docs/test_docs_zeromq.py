"""What docs/zeromq.md shows runs."""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from client.sdk import connect
from tests.conftest import RunningServer, start_server, stop_server, voice
from tests.system.docs.documents import Block
from tests.system.docs.shell import Shell
from tests.system.docs.test_docs import execute, folder, of
from tests.system.raw_client import get

__all__ = ["folder"]  # a fixture


@pytest.fixture
def publishing() -> Iterator[tuple[RunningServer, str]]:
    """A server that publishes frames on ZeroMQ, and the address of these."""
    running = start_server("--engine", "synthetic", "--zmq", "tcp://127.0.0.1:0")
    (frames,) = re.findall(r"ZeroMQ: frames at (\S+)", "".join(running.lines))
    yield running, frames
    assert stop_server(running) == 0


def in_zeromq(text: str) -> Block:
    (found,) = (b for b in of("python") if b.path.name == "zeromq.md" and text in b.text)
    return found


@pytest.mark.asyncio
async def test_the_subscribers_of_zeromq_md_get_frames(
    publishing: tuple[RunningServer, str], tmp_path: Path
) -> None:
    running, frames = publishing
    script = tmp_path / "subscriber.py"
    code = in_zeromq("zmq.CONFLATE").text
    script.write_text(code.replace("tcp://127.0.0.1:5560", frames))
    newest = (await execute(in_zeromq("def newest"), {"zmq": zmq}, 0))["newest"]
    async with connect(running.url) as face:
        session = face.ready.session
        command = [sys.executable, script, session]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
        try:
            with zmq.Context() as context, context.socket(zmq.SUB) as socket:
                socket.connect(frames)
                socket.subscribe(f"{session}/arkit52\0")
                await asyncio.wait_for(_subscriptions(running.http, 2), 20)
                await face.send(voice(1.0))
                await face.end()
                last = [frame async for frame in face.frames()][-1]
                found = await asyncio.to_thread(newest, socket)
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
        finally:
            process.kill()
            process.communicate()
    assert last.n == 29
    assert list(found) == [f"{session}/arkit52"]
    assert re.fullmatch(rf"{session}/points \d+ \(\d, 136\)\n", line), line


async def _subscriptions(http: str, wanted: int) -> None:
    def count() -> float:
        text = get(f"{http}/metrics")[1].decode()
        found = re.search(r"^kfusion_zmq_subscriptions (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    while await asyncio.to_thread(count) < wanted:  # noqa: ASYNC110 - another process's
        await asyncio.sleep(0.02)


@pytest.mark.asyncio
async def test_the_keys_of_zeromq_md_open_the_door(
    folder: Path, synthetic_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in ("keys", "clients"):
        shutil.rmtree(folder / made, ignore_errors=True)
    (typed,) = (b for b in of("shell") if "create_certificates" in b.text)
    monkeypatch.chdir(folder)
    with (
        Shell(folder, synthetic_server.port) as shell,
        zmq.Context() as context,
        context.socket(zmq.SUB) as socket,
    ):
        for command in typed.commands():
            shell.run(command)
        await execute(in_zeromq("load_certificate"), {"socket": socket}, 0)
        socket.subscribe("")
        socket.connect(re.findall(r"ZeroMQ: frames at (\S+)", "".join(shell.said))[0])
        await asyncio.wait_for(_subscriptions(f"http://127.0.0.1:{shell.port}", 1), 20)
        async with connect(f"ws://127.0.0.1:{shell.port}") as face:
            await face.send(voice(1.0))
            heard = await asyncio.to_thread(socket.recv)
    assert heard.startswith(face.ready.session.encode() + b"/")
