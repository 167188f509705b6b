"""What a client has said and may have to say again: pure, against a server that only listens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.stream.resend_queue import ResendQueue
from kfusion import wire
from kfusion.errors import BadMessage

RATE = 16_000


class Ear:
    """A server that only listens: the samples that it got, and the words between them."""

    def __init__(self) -> None:
        self.sound = b""
        self.words: list[tuple[int, str]] = []

    @property
    def position(self) -> int:
        return len(self.sound) // 2

    def hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.sound += message
            return
        said = wire.parse_client(message)
        if isinstance(said, wire.Silence):
            self.sound += bytes(2 * said.samples)
        else:
            assert isinstance(said, wire.Mark)
            self.words.append((self.position, said.id))


SAID = st.lists(
    st.tuples(st.sampled_from(["sound", "silence", "words"]), st.integers(1, 900)), max_size=12
)


@given(
    st.lists(st.tuples(SAID, st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_what_did_not_arrive_is_said_again_in_its_place(
    turns: list[tuple[list[tuple[str, int]], int, int]], behind: int
) -> None:
    queue, ear, counted = ResendQueue(RATE, 2), Ear(), np.arange(1, 32_000, dtype="<i2")
    queue.keeps_sent = True
    said = b""
    words: list[tuple[int, str]] = []
    for doing, arrive, sent in [*turns, ([], 10**6, 10**6)]:
        for kind, count in doing:
            if kind == "words":
                words.append((queue.end, f"{len(words)}"))
                queue.add_message(wire.Mark(f"{len(words) - 1}"))
            elif kind == "sound":
                pcm = counted[queue.end : queue.end + count].tobytes()
                queue.add_audio(len(pcm) // 2, pcm)
                said += pcm
            else:
                queue.add_silence(count)
                said += bytes(2 * count)
        for k in range(arrive + sent):
            if (message := queue.next_message()) is None:
                break
            if k < arrive:
                ear.hear(message)
        # Frames come up to what was heard, and not always so far.
        queue.acknowledge(max(0, ear.position * 30 // RATE - behind))
        queue.rewind(ear.position, ear.position)
    assert (ear.sound, queue.end) == (said, len(said) // 2)
    heard = list(dict.fromkeys(ear.words))
    assert heard == words  # more than once perhaps, but each at its place
    places = [at for at, _ in ear.words]
    assert places == sorted(places)


@given(SAID, st.integers(0, 8000), st.integers(0, 8000), st.integers(0, 8000))
def test_sound_that_is_past_comes_as_silence_of_its_length(
    doing: list[tuple[str, int]], heard: int, spoken: int, taken: int
) -> None:
    queue, pcm = ResendQueue(RATE, 2), np.arange(1, 32_000, dtype="<i2")
    queue.keeps_sent = True
    marks: list[tuple[int, str]] = []
    silent = np.zeros(32_000, bool)
    for kind, count in doing:
        if kind == "words":
            marks.append((queue.end, f"{len(marks)}"))
            queue.add_message(wire.Mark(marks[-1][1]))
        elif kind == "sound":
            queue.add_audio(count, pcm[queue.end : queue.end + count].tobytes())
        else:
            silent[queue.end : queue.end + count] = True
            queue.add_silence(count)
    for _ in range(taken):
        if queue.next_message() is None:
            break
    heard, spoken = min(heard, queue.end), min(spoken, queue.end)
    queue.rewind(heard, spoken)
    ear = Ear()
    ear.sound = bytes(2 * heard)
    while (message := queue.next_message()) is not None:
        ear.hear(message)
    got = np.frombuffer(ear.sound, "<i2")
    wanted = np.where(silent[: queue.end], 0, pcm[: queue.end])
    wanted[: max(heard, spoken)] = 0
    np.testing.assert_array_equal(got, wanted)
    assert ear.words == [m for m in marks if m[0] >= heard]


@pytest.mark.parametrize("position", [99, 301])
def test_a_server_that_got_what_cannot_be_is_told_apart(position: int) -> None:
    queue = ResendQueue(30, 2)
    queue.keeps_sent = True
    for _ in range(3):
        queue.add_audio(100, bytes(200))
        queue.next_message()
    queue.acknowledge(201)  # proves 200 samples heard
    with pytest.raises(BadMessage, match=f"audio_position {position}, where 300 samples"):
        queue.rewind(position, position)


def test_a_journal_of_a_stream_that_cannot_be_resumed_keeps_nothing() -> None:
    queue = ResendQueue(RATE, 2)
    for _ in range(100):
        queue.add_audio(100, bytes(200))
        queue.add_message(wire.Reset())
        while queue.next_message() is not None:
            pass
    assert not queue.items


def test_words_without_any_sound_are_forgotten_once_they_are_many() -> None:
    queue = ResendQueue(RATE, 2)
    queue.keeps_sent = True
    for k in range(2500):
        queue.add_message(wire.Mark(f"{k}"))
        queue.next_message()
        assert queue.accept_reply(wire.MarkReached(f"{k}", 0), 0)
    assert len(queue.items) <= 2 * ResendQueue.MAX_MESSAGES


def test_words_that_an_answer_proves_received_are_not_said_again() -> None:
    queue = ResendQueue(RATE, 2)
    queue.keeps_sent = True
    for words in (wire.Mark("a"), wire.SetEmotion({"sad": 1.0}), wire.Mark("b"), wire.Reset()):
        queue.add_message(words)
        queue.next_message()
    sad = wire.EmotionSet({"sad": 1.0}, 0, 0.3)
    assert queue.accept_reply(sad, 0)
    queue.rewind(0, 0)
    again = [queue.next_message() for _ in range(3)]
    assert again == [wire.encode(wire.Mark("b")), wire.encode(wire.Reset()), None]
    assert not queue.accept_reply(sad, 0)  # told once more, for the frame was not shown yet
    done = wire.ResetDone(0, 0)
    assert [queue.accept_reply(a, 0) for a in (wire.MarkReached("a", 0), done, done)] == [
        True,
        True,
        False,
    ]


def test_words_that_are_answered_before_their_turn_comes_are_not_said_again() -> None:
    queue = ResendQueue(RATE, 2)
    queue.keeps_sent = True
    queue.add_message(wire.Reset())
    queue.next_message()
    queue.rewind(0, 0)
    assert queue.accept_reply(wire.ResetDone(0, 0), 0)
    assert queue.next_message() is None


def test_a_refusal_is_told_for_each_that_asks() -> None:
    queue = ResendQueue(RATE, 2)
    queue.keeps_sent = True
    refused = wire.Error("bad_identity", "identity 'nobody' is unknown", fatal=False)
    for _ in range(2):
        queue.add_message(wire.SetIdentity("nobody"))
        queue.next_message()
        assert queue.accept_reply(refused, 0)
        queue.rewind(0, 0)
        assert queue.next_message() is None


def test_what_a_server_that_had_the_end_already_refuses_is_no_error() -> None:
    queue = ResendQueue(RATE, 2)
    queue.keeps_sent = True
    for words in (wire.Mark("a"), wire.Mark("b"), wire.EndOfAudio()):
        queue.add_message(words)
        queue.next_message()
    queue.rewind(0, 0)
    refused = wire.Error("bad_message", "a message after end; wanted nothing more", fatal=False)
    assert [queue.accept_reply(refused, 0) for _ in range(3)] == [False, False, True]
    assert [queue.accept_reply(wire.MarkReached(m, 0), 0) for m in "ab"] == [True, True]
