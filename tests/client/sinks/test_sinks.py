"""Sinks: their URLs, JSON Lines, and what becomes of UDP packets that are not received."""

import errno
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import BadSink
from client.sinks import open_sink
from client.sinks.jsonl import JsonlSink
from client.sinks.openseeface import OpenSeeFaceSink
from client.sinks.udp import UdpSink
from client.stream.events import Frame
from kfusion.coefficients import ARKIT52
from kfusion.errors import BadIdentity, MissingExtra
from kfusion.landmarks import NEUTRAL
from tests.client.sinks.packets import frame, opened

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        found.settimeout(5)
        yield found


def place(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


# URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no place for frames; wanted jsonl:FILE, osf://"),
        ("osf", "is no place for frames"),
        ("frames.jsonl", "is no place for frames"),
        ("http://127.0.0.1:80", "is no place for frames"),
        ("jsonl:", "wanted jsonl:FILE"),
        ("osf:127.0.0.1:11573", "wanted osf://HOST:PORT"),
        ("osf://", "wanted osf://HOST:PORT"),
        ("osf://127.0.0.1:0", "wanted osf://HOST:PORT"),
        ("osf://127.0.0.1:65536", "wanted osf://HOST:PORT"),
        ("osf://127.0.0.1:x", "wanted osf://HOST:PORT"),
        ("osf://[::1", "wanted osf://HOST:PORT"),
        ("osf://127.0.0.1/face", "wanted osf://HOST:PORT"),
        ("osf://127.0.0.1?vrm=1", "no option 'vrm'; wanted none"),
        ("vmc://127.0.0.1?vrm=2", "vrm=2; wanted vrm=0 or vrm=1"),
        ("vmc://127.0.0.1?name=x", "no option 'name'; wanted vrm="),
        ("livelink://127.0.0.1?subject=", "wanted 1 to 255 ASCII"),
        ("livelink://127.0.0.1?subject=J%C3%BCrgen", "wanted 1 to 255 ASCII"),
        ("vmc://no.such.host.invalid:1", "no.such.host.invalid was not found"),
    ],
)
def test_a_place_that_cannot_be_is_refused_and_why(url: str, message: str) -> None:
    with pytest.raises(BadSink, match=re.escape(message)):
        open_sink(url)


def test_without_a_port_it_is_the_protocols_own() -> None:
    for url, port in (("osf", 11573), ("vmc", 39539), ("livelink", 11111)):
        sink = open_sink(f"{url}://127.0.0.1")
        assert isinstance(sink, UdpSink)
        assert sink.socket.getpeername() == ("127.0.0.1", port)
        sink.close()


def test_a_face_at_rest_that_is_none_is_refused() -> None:
    with pytest.raises(BadIdentity):
        open_sink("osf://127.0.0.1", np.zeros((68, 2)))


@given(st.text(max_size=40))
def test_no_text_makes_another_error_than_the_one_that_helps(text: str) -> None:
    for url in (text, f"osf:{text}", f"vmc://127.0.0.1?{text}", f"livelink://127.0.0.1:{text}"):
        if url.startswith("jsonl:"):
            continue
        try:
            sink = open_sink(url)
        except BadSink:
            continue
        sink.close()


# JSON Lines


def test_lines_carry_the_coefficients_of_a_frame_that_has_them(tmp_path: Path) -> None:
    sink = open_sink(f"jsonl:{tmp_path / 'frames.jsonl'}")
    assert isinstance(sink, JsonlSink)
    sink.send(frame(opened(9)))
    sink.send(Frame(1, 1 / 30, NEUTRAL.astype(np.float32)))
    sink.close()
    both, plain = map(json.loads, (tmp_path / "frames.jsonl").read_text().splitlines())
    assert (len(both["arkit52"]), len(both["vrm"])) == (52, 14)
    assert both["arkit52"][ARKIT52.index("jawOpen")] > 0.1
    assert sorted(plain) == ["n", "points", "t"]
    np.testing.assert_array_equal(np.float32(plain["points"]), NEUTRAL.astype(np.float32))


# UDP


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (socket.gaierror(8, "nodename nor servname provided"), "nodename nor servname provided"),
        (OSError(errno.ENETUNREACH, ""), os.strerror(errno.ENETUNREACH)),
        (OSError("no number at all"), "no number at all"),
    ],
)
def test_a_host_that_is_not_found_is_told_in_the_systems_own_words(
    error: OSError, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("client.sinks.udp.socket.getaddrinfo", fail)
    with pytest.raises(BadSink, match=re.escape(f"face.example was not found ({message})")):
        open_sink("osf://face.example")


def test_a_program_that_starts_later_gets_every_packet_from_then_on() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.bind(("127.0.0.1", 0))
        port = late.getsockname()[1]
    sink = open_sink(f"osf://127.0.0.1:{port}")
    assert isinstance(sink, OpenSeeFaceSink)
    for n in range(3):
        sink.send(frame(n=n))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.bind(("127.0.0.1", port))
        late.settimeout(5)
        for n in range(4):
            sink.send(frame(n=n))
        assert [len(late.recv(4096)) for _ in range(4)] == [1785] * 4
    assert (sink.sent, sink.lost) == (4, 3)
    sink.close()


def test_without_python_osc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonosc.osc_bundle_builder", None)
    with pytest.raises(MissingExtra, match="the python-osc package is not installed"):
        open_sink("vmc://127.0.0.1")
