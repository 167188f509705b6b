"""The table of the session's states: what is written of it, and that it is what runs."""

import json
from typing import Any

import pytest

from kfusion import wire
from kfusion.errors import Busy, Internal
from server.session import states
from server.session.negotiation import Negotiation
from server.session.session import MAX_UNSENT, Session
from server.session.states import TRANSITIONS, Event, RepeatedEnd, State, refusal
from server.session.summary import MAX_ERRORS
from tests.conftest import voice
from tests.server.session.driven_session import MODEL, DrivenSession

TEXTS: dict[type[Any], str | bytes] = {
    wire.Start: '{"type":"start"}',
    wire.ResumeFrom: '{"type":"start","resume":{"token":"t","next":7}}',
    bytes: b"\0\0\0\0",
    wire.Silence: '{"type":"silence","samples":16000}',
    wire.SetEmotion: '{"type":"emotion","weights":{"sad":1}}',
    wire.SetIdentity: '{"type":"identity","id":"neutral"}',
    wire.Mark: '{"type":"mark","id":"m"}',
    wire.Reset: '{"type":"reset"}',
    wire.SdpOffer: '{"type":"offer","sdp":"v=0"}',
    wire.EndOfAudio: '{"type":"end"}',
    RepeatedEnd: '{"type":"end"}',
}
ANSWERS: dict[type[Any], list[type[Any]]] = {  # of a stream with a second of silence
    wire.Start: [wire.Ready],
    wire.SetEmotion: [wire.EmotionSet],
    wire.SetIdentity: [wire.IdentitySet],
    wire.Reset: [wire.Dropped, wire.ResetDone],
}


def entry(state: State, event: type[Any] | Event) -> str:
    """What the table has of an event in a state."""
    if event in TRANSITIONS[state]:
        return TRANSITIONS[state][event].value
    if isinstance(event, Event) or state in (State.ENDED, State.CLOSED):
        return ""
    error, fatal = refusal(state, event)
    return error.code + ", fatal" * fatal


def test_the_documented_table_is_the_one_that_runs() -> None:
    heads = ["message, event", *(state.value for state in State)]
    rows = [
        [event.name if isinstance(event, Event) else event.__name__]
        + [entry(state, event) for state in State]
        for event in (*TEXTS, *Event)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rule = ["=" * width for width in widths]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (rule, heads, rule, *rows, rule)
    ]
    assert "\n".join(lines) in (states.__doc__ or "")


def session_in(state: State, kind: type[Any]) -> DrivenSession:
    """A session in this state that can accept the message; its engine answers nothing."""
    driven = DrivenSession(started=False)
    receive = driven.session.receive
    if state is not State.NEW:
        media = "webrtc" if kind is wire.SdpOffer else "socket"
        receive(json.dumps({"type": "start", "media": media}), driven.now)
    if state in (State.OPEN, State.ENDING):
        receive('{"type":"silence","samples":16000}', driven.now)
    if state in (State.ENDING, State.ENDED):
        receive('{"type":"end"}', driven.now)
    if state is State.CLOSED:
        driven.session.fail(Internal("broken"), driven.now)
    if kind is RepeatedEnd and state is not State.CLOSED:
        driven.lose()
        driven.request_resume(0)
    driven.read()
    driven.received.clear()
    assert driven.session.state is state
    return driven


@pytest.mark.parametrize(
    ("state", "kind"),
    [(s, k) for s in State for k in TEXTS if k is not RepeatedEnd or s not in tuple(State)[:2]],
)
def test_each_message_in_each_state_has_the_answer_of_the_table(
    state: State, kind: type[Any]
) -> None:
    driven, expected = session_in(state, kind), entry(state, kind)
    driven.session.receive(TEXTS[kind], driven.now)
    driven.read()
    if expected in ("", *(s.value for s in State)):
        assert driven.session.state.value == (expected or state.value)
        assert [type(m) for m in driven.received] == (ANSWERS.get(kind, []) if expected else [])
    else:
        (error,) = driven.received
        assert error.code + ", fatal" * error.fatal == expected
        assert driven.session.state is (State.CLOSED if error.fatal else state)
        assert driven.close_code == (4400 if error.fatal else None)


@pytest.mark.parametrize(("interval_s", "count"), [(0.05, MAX_ERRORS), (0.2, 3 * MAX_ERRORS)])
def test_a_hundred_errors_in_ten_seconds_end_the_session(interval_s: float, count: int) -> None:
    driven = DrivenSession()
    for _ in range(count):
        assert driven.session.state is State.OPEN
        driven.give("?")
        driven.now += interval_s
    assert (driven.session.state is State.CLOSED) is (count == MAX_ERRORS)
    assert len(driven.codes) == count


# Time


def test_ten_seconds_without_a_start_end_it() -> None:
    driven = DrivenSession(started=False)
    driven.wait(9.9)
    assert driven.close_code is None
    driven.wait(0.2)
    assert (driven.codes, driven.close_code) == (["not_started"], 4400)


def test_a_file_that_is_not_read_from_is_not_idle() -> None:
    driven = DrivenSession(limits=wire.Limits(idle_s=5), mode="file")
    driven.reading = False
    for _ in range(4):
        driven.give(bytes(2 * 16_000 * 6))
    assert not driven.session.wants_input
    for _ in range(30):
        driven.wait(1)
    driven.reading = True
    driven.work()
    driven.wait(4)
    assert driven.codes == [] and driven.session.wants_input
    driven.wait(2)
    assert driven.codes == ["idle"]


def test_a_lost_session_is_neither_idle_nor_kept_for_long() -> None:
    driven = DrivenSession(limits=wire.Limits(idle_s=2, resume_s=10))
    driven.audio(voice(1.0))
    driven.lose()
    driven.wait(9.9)
    assert driven.session.state is State.OPEN and not driven.codes
    driven.wait(0.2)
    assert driven.session.state is State.CLOSED and not driven.codes


# Busy


@pytest.mark.parametrize(("mode", "hop", "demand"), [("live", 3, 10.0), ("file", 3, 0.0)])
def test_a_place_is_asked_for_when_a_stream_starts(mode: str, hop: int, demand: float) -> None:
    demands: list[float] = []

    def full(demand: float) -> None:
        demands.append(demand)
        raise Busy("no place", 7)

    session = Session(MODEL, wire.Limits(), 0.0, admit=full)
    session.receive(json.dumps({"type": "start", "mode": mode, "hop": hop}), 0.0)
    error = wire.parse_server(str(session.next_message(0.0)))
    assert isinstance(error, wire.Error) and (error.code, error.retry_after_s) == ("busy", 7)
    assert session.closing is not None and session.closing.code == 1013
    assert demands == [demand]


# Readers that do not read


def test_replies_that_are_never_read_end_the_session() -> None:
    driven = DrivenSession()
    driven.reading = False
    for _ in range(3000):
        driven.send(type="emotion", weights={"happy": 0.5})
    assert len(driven.session.outbox.items) <= MAX_UNSENT + 2
    assert driven.close_code == 4400


def test_replies_that_come_again_are_not_held_against_the_client() -> None:
    driven = DrivenSession()
    for _ in range(MAX_UNSENT):
        driven.send(type="emotion", weights={"happy": 0.5})
    driven.lose()
    driven.reading = False
    driven.request_resume(0)
    for _ in range(MAX_UNSENT - 1):
        driven.send(type="mark", id="m")
    assert driven.codes == [] and driven.close_code is None


# What is not there


def test_media_that_are_detached_late_do_not_take_those_that_came_after_with_them() -> None:
    negotiation, (first, second) = Negotiation(0.0), (NoMedia(), NoMedia())
    negotiation.attach(second)
    negotiation.detach(first)
    assert negotiation.media is second
    negotiation.detach(second)
    assert negotiation.media is None


class NoMedia:
    def flush(self) -> None: ...

    def skip(self, samples: int) -> None: ...


def test_a_server_without_webrtc_or_a_face_finder_says_so() -> None:
    session = Session(MODEL, wire.Limits(), 0.0)
    driven = DrivenSession()
    driven.send(type="identity", id="a", image="aaaa")
    assert driven.codes == ["bad_message"]
    session.receive('{"type":"start","media":"webrtc"}', 0.0)
    assert session.closing is not None


def test_an_offer_that_was_not_answered_is_forgotten_with_its_connection() -> None:
    driven = DrivenSession(media="webrtc")
    driven.send(type="offer", sdp="one")
    driven.send(type="offer", sdp="a second before the answer")
    assert driven.codes == ["bad_message"]
    driven.lose()
    driven.request_resume(0)
    driven.send(type="offer", sdp="two")
    assert driven.session.negotiation.offer == "two" and len(driven.codes) == 1
    driven.session.answered("sdp", driven.now)
    driven.read()
    assert driven.received[-1] == wire.SdpAnswer("sdp")
