"""What a client has said and may have to say again: pure, against a server that only listens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.stream.resend_queue import Journal
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
    journal, ear, counted = Journal(RATE, 2), Ear(), np.arange(1, 32_000, dtype="<i2")
    journal.keeps = True
    said = b""
    words: list[tuple[int, str]] = []
    for doing, arrive, sent in [*turns, ([], 10**6, 10**6)]:
        for kind, count in doing:
            if kind == "words":
                words.append((journal.end, f"{len(words)}"))
                journal.words(wire.Mark(f"{len(words) - 1}"))
            elif kind == "sound":
                pcm = counted[journal.end : journal.end + count].tobytes()
                journal.sound(len(pcm) // 2, pcm)
                said += pcm
            else:
                journal.silence(count)
                said += bytes(2 * count)
        for k in range(arrive + sent):
            if (message := journal.take()) is None:
                break
            if k < arrive:
                ear.hear(message)
        # Frames come up to what was heard, and not always so far.
        journal.reached(max(0, ear.position * 30 // RATE - behind))
        journal.rewind(ear.position, ear.position)
    assert (ear.sound, journal.end) == (said, len(said) // 2)
    heard = list(dict.fromkeys(ear.words))
    assert heard == words  # more than once perhaps, but each at its place
    places = [at for at, _ in ear.words]
    assert places == sorted(places)


@given(SAID, st.integers(0, 8000), st.integers(0, 8000), st.integers(0, 8000))
def test_sound_that_is_past_comes_as_silence_of_its_length(
    doing: list[tuple[str, int]], heard: int, spoken: int, taken: int
) -> None:
    journal, pcm = Journal(RATE, 2), np.arange(1, 32_000, dtype="<i2")
    journal.keeps = True
    marks: list[tuple[int, str]] = []
    silent = np.zeros(32_000, bool)
    for kind, count in doing:
        if kind == "words":
            marks.append((journal.end, f"{len(marks)}"))
            journal.words(wire.Mark(marks[-1][1]))
        elif kind == "sound":
            journal.sound(count, pcm[journal.end : journal.end + count].tobytes())
        else:
            silent[journal.end : journal.end + count] = True
            journal.silence(count)
    for _ in range(taken):
        if journal.take() is None:
            break
    heard, spoken = min(heard, journal.end), min(spoken, journal.end)
    journal.rewind(heard, spoken)
    ear = Ear()
    ear.sound = bytes(2 * heard)
    while (message := journal.take()) is not None:
        ear.hear(message)
    got = np.frombuffer(ear.sound, "<i2")
    wanted = np.where(silent[: journal.end], 0, pcm[: journal.end])
    wanted[: max(heard, spoken)] = 0
    np.testing.assert_array_equal(got, wanted)
    assert ear.words == [m for m in marks if m[0] >= heard]


@pytest.mark.parametrize("position", [99, 301])
def test_a_server_that_got_what_cannot_be_is_told_apart(position: int) -> None:
    journal = Journal(30, 2)
    journal.keeps = True
    for _ in range(3):
        journal.sound(100, bytes(200))
        journal.take()
    journal.reached(201)  # proves 200 samples heard
    with pytest.raises(BadMessage, match=f"audio_position {position}, where 300 samples"):
        journal.rewind(position, position)


def test_a_journal_of_a_stream_that_cannot_be_resumed_keeps_nothing() -> None:
    journal = Journal(RATE, 2)
    for _ in range(100):
        journal.sound(100, bytes(200))
        journal.words(wire.Reset())
        while journal.take() is not None:
            pass
    assert not journal.said


def test_words_without_any_sound_are_forgotten_once_they_are_many() -> None:
    journal = Journal(RATE, 2)
    journal.keeps = True
    for k in range(2500):
        journal.words(wire.Mark(f"{k}"))
        journal.take()
        assert journal.answer(wire.MarkReached(f"{k}", 0), 0)
    assert len(journal.said) <= 2 * Journal.WORDS


def test_words_that_an_answer_proves_received_are_not_said_again() -> None:
    journal = Journal(RATE, 2)
    journal.keeps = True
    for words in (wire.Mark("a"), wire.SetEmotion({"sad": 1.0}), wire.Mark("b"), wire.Reset()):
        journal.words(words)
        journal.take()
    sad = wire.EmotionSet({"sad": 1.0}, 0, 0.3)
    assert journal.answer(sad, 0)
    journal.rewind(0, 0)
    again = [journal.take() for _ in range(3)]
    assert again == [wire.encode(wire.Mark("b")), wire.encode(wire.Reset()), None]
    assert not journal.answer(sad, 0)  # told once more, for the frame was not shown yet
    done = wire.ResetDone(0, 0)
    assert [journal.answer(a, 0) for a in (wire.MarkReached("a", 0), done, done)] == [
        True,
        True,
        False,
    ]


def test_words_that_are_answered_before_their_turn_comes_are_not_said_again() -> None:
    journal = Journal(RATE, 2)
    journal.keeps = True
    journal.words(wire.Reset())
    journal.take()
    journal.rewind(0, 0)
    assert journal.answer(wire.ResetDone(0, 0), 0)
    assert journal.take() is None


def test_a_refusal_is_told_for_each_that_asks() -> None:
    journal = Journal(RATE, 2)
    journal.keeps = True
    refused = wire.Error("bad_identity", "identity 'nobody' is unknown", fatal=False)
    for _ in range(2):
        journal.words(wire.SetIdentity("nobody"))
        journal.take()
        assert journal.answer(refused, 0)
        journal.rewind(0, 0)
        assert journal.take() is None


def test_what_a_server_that_had_the_end_already_refuses_is_no_error() -> None:
    journal = Journal(RATE, 2)
    journal.keeps = True
    for words in (wire.Mark("a"), wire.Mark("b"), wire.EndOfAudio()):
        journal.words(words)
        journal.take()
    journal.rewind(0, 0)
    refused = wire.Error("bad_message", "a message after end; wanted nothing more", fatal=False)
    assert [journal.answer(refused, 0) for _ in range(3)] == [False, False, True]
    assert [journal.answer(wire.MarkReached(m, 0), 0) for m in "ab"] == [True, True]
