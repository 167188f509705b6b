"""What the page does where the network, a microphone or a sound file fails, and says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.page.browser import CHROMEDRIVER, CHROMIUM
from tests.page.pretended import Pretence, pretence

pytest.importorskip("selenium", reason="selenium is not installed")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(CHROMEDRIVER is None, reason="chromedriver is not installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretence]:
    with pretence(tmp_path_factory.mktemp("browser")) as page:
        yield page


# ---- connections

# A server that has what is said over WebRTC for its only clock, and sends frames as they are due.
CALLED: Final = """
await p.talk("webrtc");
let there = true, server = 0, next = 0;
const take = (message) => (server += message.type === "silence" ? message.samples : 0);
const speak = async (seconds, samples = 960) => {
  for (let i = 0; i < Math.round(50 * seconds); i++) {
    await p.pass(0.02);
    if (samples) p.hear(samples);
    if (there) server += samples;
    for (; there && server / 1600 - 6 >= next; next++) {
      p.peers.at(-1).channel.onmessage({ data: p.frames(Math.max(0, next - 1), next ? 2 : 1) });
    }
    if (i % 3 === 0) p.stage.tick();
    p.stage.pose(new Float32Array(136));
  }
};
const shown = () => {
  const { n, latency } = p.stage.pose(new Float32Array(136));
  return [p.stage.frames.restWeight, n - p.stage.frames.last, latency];
};
const back = async () => {
  await p.sockets.at(-1).accept({ audio_position: server, n: next });
  p.sockets.at(-1).took = take;
  await p.peers.at(-1).open();
  there = true;
};
p.sockets[0].took = take;
"""


def check_shown(shown: tuple[float, float, float]) -> None:
    """It moves, with the newest frames, a moment behind the voice."""
    rest, behind, latency = shown
    assert rest == 0
    assert -10 < behind <= 0
    assert latency == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("lost", ["the socket", "the way"])
def test_over_webrtc_the_face_follows_the_voice_again_after_a_loss(
    page: Pretence, lost: str
) -> None:
    before, after, wanted, told = page.play(
        CALLED
        + """
        await speak(3);
        const before = shown();
        there = false;
        await speak(2);
        if (a[0] === "the socket") p.sockets[0].onclose({ code: 1006, reason: "" });
        else await p.peers[0].fail();
        await speak(1);
        await back();
        await speak(3);
        return [before, shown(), JSON.parse(p.sockets[1].sent[0]).resume.next, p.told];
        """,
        lost,
    )
    check_shown(before)
    check_shown(after)
    assert wanted == 85
    assert told == ["idle", "asking", "connecting", "live", "reconnecting", "live"]


def test_over_webrtc_chunks_that_come_late_are_not_counted_as_silence_too(page: Pretence) -> None:
    early, late = page.play(
        CALLED
        + """
        await speak(1);
        const early = p.stage.live.position - server;
        await speak(0.4, 0);
        for (let i = 0; i < 20; i++, server += 960) p.hear(960);
        await speak(1);
        return [early, p.stage.live.position - server];
        """
    )
    assert (early, late) == (0, 0)


def test_a_way_that_was_never_found_is_given_up_after_three_tries(page: Pretence) -> None:
    sockets, peers, told = page.play(
        """
        p.begin("webrtc");
        await p.press("microphone");
        await p.asks[0].give();
        await p.sockets[0].accept();
        for (let i = 0; i < 30; i++) await p.pass(1);
        return [p.sockets.length, p.peers.length, p.told];
        """
    )
    assert (sockets, peers) == (1, 3)
    assert told == ["idle", "asking", "connecting", "no-webrtc"]


def test_a_connection_that_dies_without_a_word_is_noticed_and_resumed(page: Pretence) -> None:
    heard, lost_at, first, told = page.play(
        """
        await p.talk();
        const [socket] = p.sockets;
        const speak = async (seconds, each = () => {}) => {
          for (let i = 0; i < 50 * seconds && p.sockets.length < 2; i++) {
            await p.pass(0.02);
            p.hear(960);
            p.stage.tick();
            if (i % 5 === 0) each(3 * i / 5);
          }
        };
        await speak(15, (n) => socket.say(p.frames(n, 3)));
        const heard = p.stage.received;
        const before = p.now;
        socket.took = () => (socket.bufferedAmount += 1920);
        await speak(15);
        const lostAt = p.now - before;
        const again = p.sockets[1];
        await again.accept({ audio_position: 48000 });
        return [heard, lostAt, JSON.parse(again.sent[0]).resume.next, p.told];
        """
    )
    assert heard == 450
    assert 9.5 < lost_at < 11
    assert first == 450
    assert told == ["idle", "asking", "connecting", "live", "reconnecting", "live"]


def test_a_microphone_that_is_off_is_no_reason_to_miss_the_server(page: Pretence) -> None:
    sockets = page.play(
        """
        await p.talk();
        p.hear(960);
        p.sockets[0].say(p.frames(0, 3));
        await p.press("microphone");
        for (let i = 0; i < 300; i++) await p.pass(0.05);
        return p.sockets.length;
        """
    )
    assert sockets == 1


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up(page: Pretence) -> None:
    told = page.play(
        """
        p.begin().feel({ happy: 1 });
        for (let i = 0; i < 60; i++) {
          await p.pass(1);
          if (p.sockets.length > 0) p.sockets.at(-1).onopen();
        }
        return p.told;
        """
    )
    assert told == ["idle", "connecting", "reconnecting", "unreachable"]


def test_while_the_connection_is_away_nothing_is_said_to_be_connected(page: Pretence) -> None:
    told = page.play(
        """
        const told = () => p.told.splice(0).join(" ");
        await p.talk();
        const said = [told()];
        p.sockets[0].onclose({ code: 1006, reason: "" });
        await p.press("microphone");
        said.push(told());
        await p.press("microphone");
        await p.asks.at(-1).give();
        said.push(told());
        await p.pass(1);
        await p.sockets[1].accept();
        said.push(told());
        return said;
        """
    )
    assert told == [
        "idle asking connecting live",
        "reconnecting",
        "asking reconnecting",
        "live",
    ]


# ---- microphones


def test_a_refusal_that_comes_late_stops_no_sound_file(page: Pretence) -> None:
    playing, loading = page.play(
        """
        p.begin();
        await p.press("microphone");
        p.stage.play(p.file);
        await p.settle();
        await p.sockets[0].accept();
        await p.asks[0].refuse("NotAllowedError");
        const playing = [p.stage.playback !== null, p.told.at(-1)];
        p.stage.stopFile();

        await p.press("microphone");
        let read;
        p.reading = new Promise((done) => (read = done));
        p.stage.play(p.file);
        await p.asks[1].refuse("NotAllowedError");
        const loading = [p.told.at(-1)];
        read();
        await p.settle();
        return [playing, [...loading, p.stage.playback !== null]];
        """
    )
    assert playing == [True, "buffering"]
    assert loading == ["loading", True]


def test_a_microphone_that_fails_late_does_not_stop_the_one_chosen_meanwhile(
    page: Pretence,
) -> None:
    chosen, told = page.play(
        """
        p.devices = ["slow", "other"];
        p.begin();
        p.controls.device.append(new Option("slow", "slow"), new Option("other", "other"));
        await p.choose("slow");
        await p.press("microphone");
        await p.choose("other");
        await p.asks[1].give(new p.Track("other"));
        await p.sockets[0].accept();
        await p.asks[0].refuse("NotReadableError");
        return [p.stage.microphone?.deviceId, p.told.at(-1)];
        """
    )
    assert (chosen, told) == ("other", "live")


@pytest.mark.parametrize("noticed", ["as it goes", "at the next start"])
def test_after_a_microphone_was_unplugged_the_usual_one_is_asked_for(
    page: Pretence, noticed: str
) -> None:
    listed, told, asked, chosen = page.play(
        """
        p.devices = ["headset"];
        p.begin();
        const track = new p.Track("headset");
        await p.press("microphone");
        await p.asks[0].give(track);
        const listed = [...p.controls.device.options].map(({ value }) => value);
        if (a[0] === "as it goes") track.onended();
        else {
          await p.press("microphone");
          await p.press("microphone");
          await p.asks[1].refuse("OverconstrainedError");
        }
        const told = p.told.at(-1);
        p.devices = ["other"];
        await p.press("microphone");
        const { deviceId } = p.asks.at(-1).wanted.audio;
        await p.asks.at(-1).give(new p.Track("other"));
        return [listed, told, deviceId ?? null, p.controls.device.value];
        """,
        noticed,
    )
    assert listed == ["", "headset"]
    assert told == {"as it goes": "gone", "at the next start": "no-microphone"}[noticed]
    assert (asked, chosen) == (None, "other")


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        ("AudioContext.prototype.createMediaStreamSource", "microphone-busy"),
        ("AudioWorkletNode", "microphone-busy"),
        ("AudioContext", "microphone-busy"),
        ("p.addModule", "unreachable"),
    ],
)
@pytest.mark.parametrize("media", ["socket", "webrtc"])
def test_a_microphone_that_cannot_be_heard_is_let_go_and_told_of(
    page: Pretence, media: str, fails: str, told: str
) -> None:
    left, said = page.play(
        f"{fails} = function () {{ throw new DOMException('no', 'NotSupportedError'); }};"
        + """
        p.begin(a[0]);
        await p.press("microphone");
        const track = new p.Track("usual");
        await p.asks[0].give(track);
        return [[track, ...p.contexts].map((o) => o.readyState ?? o.state), p.told.at(-1)];
        """,
        media,
    )
    assert set(left) <= {"ended", "closed"}
    assert said == told


def test_over_webrtc_a_microphone_of_another_rate_keeps_the_time_of_its_track(
    page: Pretence,
) -> None:
    position, rates, told = page.play(
        """
        p.rate = 44100;
        AudioContext.prototype.createMediaStreamSource = function () {
          if (this.sampleRate !== p.rate) throw new DOMException("no", "NotSupportedError");
          return { connect() {}, disconnect() {} };
        };
        await p.talk("webrtc");
        for (let i = 0; i < 50; i++) {
          await p.pass(0.02);
          p.hear(882);
        }
        const rates = p.contexts.map(({ sampleRate, state }) => [sampleRate, state]);
        return [p.stage.live.position, rates, p.told.at(-1)];
        """
    )
    assert position == pytest.approx(48000, abs=1)
    assert rates == [[48000, "closed"], [44100, "running"]]
    assert told == "live"


# ---- sound files


def test_a_sound_file_can_be_stopped_while_it_is_read(page: Pretence) -> None:
    before, after = page.play(
        """
        p.begin();
        let read;
        p.reading = new Promise((done) => (read = done));
        p.stage.play(p.file);
        await p.settle();
        const before = [p.told.at(-1), p.controls.stopFile.hidden];
        await p.press("stopFile");
        read();
        await p.settle();
        const { playback } = p.stage;
        return [before, [p.told.at(-1), p.controls.stopFile.hidden, playback, p.sockets.length]];
        """
    )
    assert before == ["loading", False]
    assert after == ["idle", True, None, 0]
