"""Emotion over time: what is written, the frames where it begins, and the same from a stream."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client import connect
from client.__main__ import arguments, main
from client.stream.pcm import chunks, silent_chunks
from client.stream.state import ClientStream
from kfusion import wire
from kfusion.audio import frame_bytes
from kfusion.emotion_timeline import EmotionSpan, EmotionTimeline
from kfusion.errors import BadEmotion
from kfusion.runtime import Animator, SyntheticEngine
from kfusion.stream import frame_count, sample_of
from tests.client.memory_server import MemoryServer
from tests.conftest import RunningServer, voice

SPANS = "0-0.5:happy,0.9-1.35:happy=0.25+sad=0.75,1.5-:angry=0.5"


def changes(timeline: EmotionTimeline) -> list[tuple[int, dict[str, float]]]:
    return [(n, dict(weights)) for n, weights in timeline.changes]


# What is written


@pytest.mark.parametrize(
    ("text", "initial", "expected"),
    [
        (
            SPANS,
            {"happy": 1.0},
            [(15, {}), (27, {"happy": 0.25, "sad": 0.75}), (41, {}), (45, {"angry": 0.5})],
        ),
        ("1-2:sad,2-3:happy", {}, [(30, {"sad": 1.0}), (60, {"happy": 1.0}), (90, {})]),
        # 0.1 s is exactly frame 3, though binary floats cannot represent it.
        ("0.1-0.2:sad", {}, [(3, {"sad": 1.0}), (6, {})]),
        ("0.101-.2001:sad", {}, [(4, {"sad": 1.0}), (7, {})]),
        ("0.51-0.52:sad", {}, []),  # no frame lies in it
    ],
)
def test_spans_change_the_weights_on_the_first_frame_at_or_after_their_ends(
    text: str, initial: dict[str, float], expected: list[tuple[int, dict[str, float]]]
) -> None:
    timeline = EmotionTimeline.parse(text)
    assert (timeline.initial, changes(timeline)) == (initial, expected)


def test_blanks_may_stand_between_the_words() -> None:
    assert EmotionTimeline.parse(" 0 - 2 : happy = 0.4 + sad=0.6 , 3-:fear").spans == (
        EmotionSpan(Fraction(0), Fraction(2), {"happy": 0.4, "sad": 0.6}),
        EmotionSpan(Fraction(3), None, {"fear": 1.0}),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0-2", r"'0-2': not a span of time; wanted BEGIN-END:NAME"),
        ("0-2:happy,", r"'': not a span"),
        ("-2:happy", r"'-2:happy': not a span"),
        ("a-2:happy", r"'a-2:happy': not a span"),
        ("0-2:hapy", r"0-2:hapy=1: emotion 'hapy' is unknown; wanted some of angry"),
        ("0-2:", r"0-2:=1: emotion '' is unknown"),
        ("0-2:happy=1.5", r"0-2:happy=1.5: emotion 'happy': weight 1.5 is outside 0..1"),
        ("0-2:happy=much", r"'0-2:happy=much': the weight of happy is 'much'; wanted a number"),
        ("0-2:happy=nan", r"outside 0..1"),
        ("0-2:happy=0.7+sad=0.7", r"0-2:happy=0.7\+sad=0.7: emotion weights sum to 1.4"),
        ("0-2:happy=0.2+happy=0.3", r"happy twice"),
        ("2-1:happy", r"'2-1:happy=1' ends at 1 s; wanted a time after its begin"),
        ("1-1:happy", r"ends at 1 s"),
        ("0-2:happy,1-3:sad", r"'1-3:sad=1' begins before '0-2:happy=1' ends"),
        ("3-4:happy,1-2:sad", r"'1-2:sad=1' begins before '3-4:happy=1' ends"),
        ("0-:happy,5-6:sad", r"'5-6:sad=1' begins before '0-:happy=1' ends"),
    ],
)
def test_what_is_no_score_is_refused_and_where(text: str, says: str) -> None:
    with pytest.raises(BadEmotion, match=says):
        EmotionTimeline.parse(text)


def test_spans_can_be_made_of_numbers_too() -> None:
    timeline = EmotionTimeline([EmotionSpan(0.5, 1.5, {"sad": 1.0})], ramp=0.0)
    assert changes(timeline) == [(15, {"sad": 1.0}), (45, {})]
    with pytest.raises(BadEmotion, match="ramp is -1 s"):
        EmotionTimeline([], ramp=-1)
    with pytest.raises(BadEmotion, match="begins at nan s"):
        EmotionTimeline([EmotionSpan(float("nan"), None, {})])


def test_the_vector_is_reached_over_the_ramp_and_left_over_it() -> None:
    curve = EmotionTimeline.parse("1-2:happy").curve()
    happy = [float(curve.at(n)[4]) for n in (29, 30, 33, 36, 39, 59, 60, 63, 69)]
    assert happy == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 0])


spans = st.lists(st.integers(0, 120), min_size=2, max_size=8, unique=True).map(
    lambda ends: ",".join(f"{a / 30:.4f}-{b / 30:.4f}:sad" for a, b in pairwise(sorted(ends)))
)


# In a stream


def sent_emotions(
    timeline: EmotionTimeline, parts: list[tuple[int, bool]], rate: int
) -> list[tuple[int, dict[str, float]]]:
    """The positions at which a stream of the parts (samples, is silence) sends emotions."""
    start = wire.Start(audio=wire.AudioFormat(rate), mode="file", emotion=dict(timeline.initial))
    stream = ClientStream(start, fill_silence=False, timeline=timeline)
    for answer in MemoryServer()(stream.start_message()):
        assert isinstance(answer, str)
        stream.receive(answer)
    for samples, silent in parts:
        source = silent_chunks(samples, rate) if silent else chunks(bytes(2 * samples), start.audio)
        for chunk in source:
            stream.send(chunk, 0.0)
    stream.send_control(wire.EndOfAudio(), 0.0)
    position, found = 0, []
    while (message := stream.resend_queue.next_message()) is not None:
        if isinstance(message, bytes):
            assert message
            position += len(message) // frame_bytes("s16le", 1)
            continue
        match wire.parse_client(message):
            case wire.Silence(samples):
                position += samples
            case wire.SetEmotion(weights, ramp):
                assert ramp == timeline.ramp
                found.append((position, weights))
            case _:
                pass
    assert position == sum(samples for samples, _ in parts)
    return found


@given(
    text=spans,
    parts=st.lists(st.tuples(st.integers(0, 9_000), st.booleans()), max_size=12),
    rate=st.sampled_from([8_000, 11_025, 16_000, 48_000]),
)
def test_any_chunking_says_each_emotion_at_its_own_sample(
    text: str, parts: list[tuple[int, bool]], rate: int
) -> None:
    timeline = EmotionTimeline.parse(text)
    found = sent_emotions(timeline, parts, rate)
    total = sum(samples for samples, _ in parts)
    expected = [(sample_of(n, rate), dict(weights)) for n, weights in timeline.changes]
    assert found == [(at, weights) for at, weights in expected if at < total]
    frames = [frame_count(at, rate) for at, _ in found]
    assert frames == [n for n, _ in timeline.changes[: len(found)]]


def test_a_change_at_the_very_end_of_the_sound_is_not_sent() -> None:
    assert sent_emotions(EmotionTimeline.parse("1-:sad"), [(16_000, False)], 16_000) == []
    assert sent_emotions(EmotionTimeline.parse("1-:sad"), [(16_001, False)], 16_000) == [
        (16_000, {"sad": 1.0})
    ]


async def streamed(
    url: str, samples: NDArray[np.float32], rate: int, chunk: int, timeline: EmotionTimeline
) -> NDArray[np.float32]:
    async with connect(url, rate=rate, mode="file", format="f32le", emotion=timeline) as face:
        for k in range(0, len(samples), chunk):
            await face.send(samples[k : k + chunk])
        await face.end()
        return np.stack([frame.points async for frame in face.frames()])


@pytest.mark.asyncio
@pytest.mark.parametrize("chunk", [37_000, 977])
async def test_a_stream_gives_what_the_offline_call_gives(
    synthetic_server: RunningServer, chunk: int
) -> None:
    sound, timeline = voice(2.2, 22_050), EmotionTimeline.parse(SPANS)
    expected = Animator(SyntheticEngine()).animate(sound, 22_050, emotion=timeline)
    frames = await streamed(synthetic_server.url, sound, 22_050, chunk, timeline)
    np.testing.assert_allclose(frames, expected, atol=1e-4)


def test_offline_each_window_has_the_emotion_of_its_last_frame() -> None:
    engine = SyntheticEngine()
    timeline = EmotionTimeline.parse("0.5-1:happy")
    quiet = np.zeros(32_000, np.float32)
    frames = Animator(engine).animate(quiet, 16_000, emotion=timeline, hop=1, lookahead=0)
    curve = timeline.curve()
    expressions = [
        engine.step(np.zeros((1, 16_000)), frames[:1], curve.at(n)[None])[0, 0] for n in range(60)
    ]
    steps = [n for n in range(1, 60) if np.abs(frames[n] - frames[n - 1]).max() > 1e-3]
    assert steps[0] == 16 and min(n for n in steps if n > 30) == 31  # ramps begin at 15 and 30
    still = [10, 29, 30, 55]
    np.testing.assert_allclose(
        frames[still] - frames[0],
        np.stack([expressions[n] for n in still]) - expressions[0],
        atol=1e-4,
    )


# The command line


def test_the_command_line_takes_weights_or_spans() -> None:
    a = arguments(["file", "a.wav", "--out", "o", "--emotion", "0-2:happy,2-:sad=0.3"])
    assert isinstance(a.emotion, EmotionTimeline)
    assert changes(a.emotion) == [(60, {"sad": 0.3})]
    apart = arguments(["say", "a.wav", "--emotion", "0-2:happy,", "2-:sad=0.3"])
    assert apart.emotion == a.emotion


@pytest.mark.parametrize(
    ("given_words", "says"),
    [
        (["0-2:happy", "sad=0.3"], "wanted either"),
        (["0-2:hapy"], "'hapy' is unknown"),
        (["0-2:happy,1-3:sad"], "'1-3:sad=1' begins before"),
    ],
)
def test_a_wrong_score_is_a_plain_line(
    given_words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["file", "a.wav", "--out", "-", "--emotion", *given_words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kfusion-client: ") and says in line
