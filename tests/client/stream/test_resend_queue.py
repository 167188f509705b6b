"""The queue of what is sent, and sent again on another connection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.stream.messages import ControlMessage
from client.stream.resend_queue import ResendQueue
from kfusion import wire
from kfusion.errors import BadMessage

RATE = 16_000


class Receiver:
    """A server that keeps the audio that it receives, and the marks with their positions."""

    def __init__(self) -> None:
        self.audio = b""
        self.marks: list[tuple[int, str]] = []

    @property
    def position(self) -> int:
        return len(self.audio) // 2

    def receive(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.audio += message
            return
        parsed = wire.parse_client(message)
        if isinstance(parsed, wire.Silence):
            self.audio += bytes(2 * parsed.samples)
        else:
            assert isinstance(parsed, wire.Mark)
            self.marks.append((self.position, parsed.id))

    def truncate(self, position: int) -> None:
        self.audio = self.audio[: 2 * position]
        self.marks = [mark for mark in self.marks if mark[0] <= position]


ITEMS = st.lists(
    st.tuples(st.sampled_from(["audio", "silence", "mark"]), st.integers(1, 900)), max_size=12
)
# What is added, the messages received and lost, the samples cut off the last, those that are past.
CONNECTION = st.tuples(
    ITEMS, st.integers(0, 12), st.integers(0, 12), st.integers(0, 400), st.integers(-100, 2000)
)


@given(st.lists(CONNECTION, min_size=1, max_size=5), st.integers(0, 3))
def test_what_was_lost_is_sent_again_in_its_place_and_what_is_past_as_silence(
    connections: list[tuple[list[tuple[str, int]], int, int, int, int]], behind: int
) -> None:
    queue, server = resumable(), Receiver()
    pcm = (1 + np.arange(60_000) % 32_000).astype("<i2")
    expected = np.zeros(60_000, "<i2")
    marks: list[tuple[int, str]] = []
    for items, received, lost, cut, past in [*connections, ([], 10**6, 0, 0, 0)]:
        before = server.position
        for kind, count in items:
            first, end = queue.end, queue.end + count
            if kind == "mark":
                marks.append((first, f"{len(marks)}"))
                queue.add_message(wire.Mark(marks[-1][1]))
            elif kind == "audio":
                expected[first:end] = pcm[first:end]
                queue.add_audio(count, pcm[first:end].tobytes())
            else:
                queue.add_silence(count)
        for k in range(received + lost):
            if (message := queue.next_message()) is None:
                break
            if k < received:
                server.receive(message)
        server.truncate(max(before, server.position - cut))
        # Frames come up to what was received, and not always so far.
        queue.acknowledge(max(0, server.position * 30 // RATE - behind))
        silent_until = max(0, min(server.position + past, queue.end))
        expected[server.position : silent_until] = 0
        queue.rewind(server.position, silent_until)
    assert server.audio == expected[: queue.end].tobytes()
    assert list(dict.fromkeys(server.marks)) == marks  # perhaps more than once, but in place
    assert server.marks == sorted(server.marks, key=lambda mark: mark[0])


def resumable(*messages: ControlMessage) -> ResendQueue:
    """A queue that keeps what it has sent: these messages."""
    queue = ResendQueue(RATE, 2)
    queue.keeps_sent = True
    for message in messages:
        queue.add_message(message)
        assert queue.next_message() == wire.encode(message)
    return queue


@pytest.mark.parametrize("position", [99, 301])
def test_a_position_that_cannot_be_is_an_error(position: int) -> None:
    queue = ResendQueue(30, 2)
    queue.keeps_sent = True
    for _ in range(3):
        queue.add_audio(100, bytes(200))
        queue.next_message()
    queue.acknowledge(201)  # proves 200 samples received
    with pytest.raises(BadMessage, match=f"audio_position {position}, where 300 samples"):
        queue.rewind(position, position)


def test_a_stream_that_cannot_be_resumed_keeps_nothing() -> None:
    queue = ResendQueue(RATE, 2)
    for _ in range(100):
        queue.add_audio(100, bytes(200))
        queue.add_message(wire.Reset())
        while queue.next_message() is not None:
            pass
    assert not queue.items


def test_many_messages_without_audio_are_forgotten() -> None:
    queue = resumable()
    for k in range(2500):
        queue.add_message(wire.Mark(f"{k}"))
        queue.next_message()
        assert queue.accept_reply(wire.MarkReached(f"{k}", 0), 0)
    assert len(queue.items) <= 2 * ResendQueue.MAX_MESSAGES


def test_messages_that_a_reply_proves_received_are_not_sent_again() -> None:
    queue = resumable(
        wire.Mark("a"), wire.SetEmotion({"sad": 1.0}), wire.Mark("b"), wire.Reset()
    )  # fmt: skip
    sad = wire.EmotionSet({"sad": 1.0}, 0, 0.3)
    assert queue.accept_reply(sad, 0)
    queue.rewind(0, 0)
    again = [queue.next_message() for _ in range(3)]
    assert again == [wire.encode(wire.Mark("b")), wire.encode(wire.Reset()), None]
    assert not queue.accept_reply(sad, 0)  # repeated, for its frame has not come yet
    done = wire.ResetDone(0, 0)
    replies = (wire.MarkReached("a", 0), done, done)
    assert [queue.accept_reply(reply, 0) for reply in replies] == [True, True, False]


def test_a_message_whose_reply_comes_before_it_is_sent_again_is_not_sent() -> None:
    queue = resumable(wire.Reset())
    queue.rewind(0, 0)
    assert queue.accept_reply(wire.ResetDone(0, 0), 0)
    assert queue.next_message() is None


def test_each_refused_message_has_its_own_error() -> None:
    queue = resumable()
    refused = wire.Error("bad_identity", "identity 'nobody' is unknown", fatal=False)
    for _ in range(2):
        queue.add_message(wire.SetIdentity("nobody"))
        queue.next_message()
        assert queue.accept_reply(refused, 0)
        queue.rewind(0, 0)
        assert queue.next_message() is None


def test_refusals_of_a_server_that_had_the_end_already_are_no_errors() -> None:
    queue = resumable(wire.Mark("a"), wire.Mark("b"), wire.EndOfAudio())
    queue.rewind(0, 0)
    refused = wire.Error("bad_message", "a message after end; wanted nothing more", fatal=False)
    assert [queue.accept_reply(refused, 0) for _ in range(3)] == [False, False, True]
    assert [queue.accept_reply(wire.MarkReached(m, 0), 0) for m in "ab"] == [True, True]
