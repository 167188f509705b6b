"""The session machine, run by Hypothesis and, for what it found before, by hand.

For a longer search than the usual one::

    SESSION_EXAMPLES=5000 SESSION_STEPS=80 python -m pytest \\
        tests/server/session/test_session_machine.py
"""

import json
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import settings

from kfusion import wire
from kfusion.landmarks import NEUTRAL, Identity
from server.pictures.request import FoundFace
from server.session.session import MAX_UNSENT
from server.session.states import State
from tests.server.session.machine import Machine, machine
from tests.server.session.refused_messages import REFUSED, REFUSED_STARTS


def number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


TestSessionMachine: Any = Machine.TestCase
TestSessionMachine.settings = settings(
    max_examples=number("SESSION_EXAMPLES", 12),
    stateful_step_count=number("SESSION_STEPS", 40),
)


@pytest.mark.parametrize("start", REFUSED_STARTS)
def test_a_start_that_is_refused_ends_the_session(start: tuple[str, str]) -> None:
    found = Machine()
    found.begin(wire.Limits(), None)
    found.refused_start(start)
    found.finish()


@pytest.mark.parametrize("message", REFUSED)
def test_a_message_that_is_refused_changes_nothing(message: tuple[str | bytes, str]) -> None:
    found = machine({"mode": "file"})
    found.audio(7000, True)
    found.nonsense(message, 1)
    found.audio(9000, True)
    found.finish()
    assert found.client.end == wire.End(30, 0, 1.0)


def test_windows_that_are_given_up_are_announced_with_the_marks_among_them() -> None:
    found = machine({"hop": 10, "lookahead": 0})
    found.quick = False
    found.audio(8000, True)
    found.mark("in the middle of a window", 1)
    found.audio(8000, True)
    found.engine_answers([False, True, True], False)
    found.finish()
    assert set(found.client.dropped) == set(range(10, 30))
    assert set(found.client.dropped.values()) == {"overload"}


def test_windows_that_a_reset_took_back_count_until_the_engine_has_done_with_them() -> None:
    found = machine({"hop": 1, "lookahead": 0})
    found.quick = False
    for _ in range(5):
        found.silence(16_000)
        found.reset()
        found.always()
    found.finish()


def test_what_lies_behind_dropped_frames_is_not_lost_with_the_connection() -> None:
    found = machine()
    found.audio(16_000 * 5, False)
    found.mark("in the middle", 1)
    found.emotion({"happy": 0.125}, 0.3, 1)
    found.audio(16_000 * 3, False)
    found.reset()
    found.read(5000, False)
    while not isinstance(found.in_transit[0], wire.Dropped):
        found.arrive(1)
    found.arrive(1)  # and neither the mark, nor the emotion, nor the reset
    found.lose(0)
    found.resume("true")
    found.finish()


def test_a_frame_of_which_one_output_was_sent_comes_again_with_all() -> None:
    found = machine({"outputs": ["points", "vrm"]})
    found.silence(16_000)
    found.read(2, True)  # `ready` and the points
    found.lose(0)
    found.resume("none")
    found.finish()


def test_a_gap_that_is_asked_for_twice_is_announced_once() -> None:
    found = machine()
    found.speak_on(40, True)
    for wanted in (250, 0, 0):
        found.lose(0)
        found.client.next = wanted
        found.resume("true")
        found.read(5000 * (wanted > 0), True)
    found.finish()


def test_frames_made_while_nobody_was_there_do_not_make_a_slow_reader() -> None:
    found = machine()
    for _ in range(10):
        found.audio(16_000, False)
    found.read(5000, True)
    found.lose(0)
    found.wait(7)  # 210 frames more
    found.resume("true")
    found.wait(1)  # before all of them are on the wire
    found.finish()
    assert not found.client.dropped


def test_frames_asked_for_again_do_not_make_a_slow_reader_the_second_time_either() -> None:
    found = machine()
    found.speak_on(20, True)
    found.lose(0)
    found.resume("none")
    found.read(50, True)
    found.lose(0)
    found.resume("true")
    found.speak_on(1, False)
    found.finish()
    assert not found.client.dropped


def test_unread_replies_do_not_add_up_over_connections() -> None:
    found = machine()
    for _ in range(4):
        found.emotion({}, 0.3, MAX_UNSENT - 10)
        found.lose(0)
        if found.state is State.CLOSED:
            return
        found.resume("true")
        found.always()


def test_a_session_that_is_not_read_ends_after_its_time_too() -> None:
    found = machine({"mode": "file"}, session_s=15.0)
    found.silence(60 * 16_000)
    assert not found.session.wants_input
    found.wait(20)
    assert found.session.state is not State.OPEN
    found.finish()


def test_one_that_has_ended_asks_for_no_more_time() -> None:
    """A timer that is always late would be set again at once, a thousand times a second."""
    found = machine({"mode": "file"}, idle_s=4.0)
    found.silence(20 * 16_000)
    found.end(0)
    assert found.session.state is State.ENDING  # most of its frames have no room yet
    found.wait(60)


def test_an_error_quotes_only_so_much_of_what_was_wrong() -> None:
    found = machine()
    long = "x" * 500_000
    found.refused(json.dumps({"type": "emotion", "weights": {long: 1}}), "bad_emotion")
    found.refused(json.dumps({"type": long}), "bad_message")
    for error in list(found.session.outbox.items)[1:]:
        assert isinstance(error, wire.Error) and len(error.message) <= 2000


def test_single_samples_between_silences_take_no_more_memory_than_others() -> None:
    found = machine()
    for _ in range(5000):
        found.session.receive(b"\1\0", found.now)
        found.session.receive('{"type":"silence","samples":1}', found.now)
    assert len(found.windows.slider.queue.chunks) < 100


def test_unread_replies_of_one_face_share_its_points() -> None:
    found = machine()
    found.identity("a", "a")
    tracemalloc.start()
    try:
        for _ in range(1000):
            found.session.receive('{"type":"identity","id":"a"}', found.now)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("finds", [True, False])
def test_the_end_waits_for_the_face_of_a_picture(finds: bool) -> None:
    found = machine({"mode": "file"})
    found.silence(16_000)
    found.send_picture("a", "b")
    found.end(0)
    found.drain()
    assert found.session.state is State.ENDING and found.client.next == 30
    found.finish_search(finds, "")
    assert found.session.state is State.ENDED
    found.finish()


def test_a_picture_that_is_found_while_nobody_is_there_is_told_who_comes_back() -> None:
    found = machine()
    found.send_picture("a", "b")
    found.send_picture("a", "b")  # the same once more
    found.silence(32_000)
    found.reset()
    found.lose(0)
    found.finish_search(True, "the mouth was open")
    found.resume("true")
    found.silence(32_000)
    found.finish()


def test_what_comes_later_takes_the_place_of_a_picture() -> None:
    found = machine()
    found.send_picture("a", "a")
    found.send_picture("b", "b")
    found.identity("c", "c")
    assert found.session.search is None
    found.send_picture("a", "d")
    found.identity("nobody", None)  # refused: nothing changes
    assert found.session.search is not None
    found.finish_search(True, "")
    found.finish()


def test_a_session_that_is_over_waits_for_no_picture() -> None:
    found = machine(resume_s=0.0)
    found.send_picture("a", "a")
    search = found.session.search
    assert search is not None
    found.lose(0)
    found.session.found(search, FoundFace(Identity.from_points(NEUTRAL)), found.now)
    assert (
        found.session.state is State.CLOSED and not found.session.identity_search.identities.faces
    )
