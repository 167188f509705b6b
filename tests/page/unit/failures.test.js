// What the page does where the network, a microphone or a sound file fails.

import assert from "node:assert/strict";
import test from "node:test";

import { Retry } from "../../../client/viewer/net/retry.js";
import { FakePage, FakeTrack, frames, settle } from "./fakes.js";
import { near } from "./viewer.js";

// ---- connections

/** A call, to a server that has what comes over WebRTC for its only clock. */
class Call {
  there = true;
  samples = 0; // that came to the server
  next = 0; // frame

  async begin() {
    this.page = new FakePage();
    await this.page.talk("webrtc");
    this.page.sockets[0].took = this.took;
  }

  took = (message) => (this.samples += message.type === "silence" ? message.samples : 0);

  async speak(seconds, samples = 960) {
    const { page } = this;
    for (let i = 0; i < Math.round(50 * seconds); i++) {
      await page.pass(0.02);
      if (samples) page.capture(samples);
      if (this.there) this.samples += samples;
      for (; this.there && this.samples / 1600 - 6 >= this.next; this.next++) {
        const data = frames(Math.max(0, this.next - 1), this.next ? 2 : 1);
        page.peers.at(-1).channel.onmessage({ data });
      }
      if (i % 3 === 0) page.controller.tick();
      page.controller.pose(new Float32Array(136));
    }
  }

  /** The server is there again. */
  async back() {
    const { page } = this;
    await page.sockets.at(-1).accept({ audio_position: this.samples, n: this.next });
    page.sockets.at(-1).took = this.took;
    await page.peers.at(-1).open();
    this.there = true;
  }

  /** The face moves, with the newest frames, a moment behind the voice. */
  check() {
    const { controller } = this.page;
    const { n, latency } = controller.pose(new Float32Array(136));
    assert.equal(controller.frames.restWeight, 0);
    const behind = n - controller.frames.last;
    assert.ok(-10 < behind && behind <= 0);
    near(latency, 0.3, 0.1);
  }
}

for (const lost of ["the socket", "the way"]) {
  test(`over WebRTC the face follows the voice again after a loss of ${lost}`, async () => {
    const call = new Call();
    await call.begin();
    const { page } = call;
    await call.speak(3);
    call.check();
    call.there = false;
    await call.speak(2);
    if (lost === "the socket") page.sockets[0].onclose({ code: 1006, reason: "" });
    else await page.peers[0].fail();
    await call.speak(1);
    await call.back();
    await call.speak(3);
    call.check();
    assert.equal(JSON.parse(page.sockets[1].sent[0]).resume.next, 85);
    assert.deepEqual(page.states,
      ["idle", "asking", "connecting", "live", "reconnecting", "live"]);
  });
}

test("over WebRTC chunks that come late are not counted as silence too", async () => {
  const call = new Call();
  await call.begin();
  const { page } = call;
  await call.speak(1);
  assert.equal(page.controller.live.position, call.samples);
  await call.speak(0.4, 0);
  for (let i = 0; i < 20; i++, call.samples += 960) page.capture(960);
  await call.speak(1);
  assert.equal(page.controller.live.position, call.samples);
});

test("a way that was never found is given up after three tries", async () => {
  const page = new FakePage();
  page.begin("webrtc");
  await page.press("microphone");
  await page.requests[0].give();
  await page.sockets[0].accept();
  for (let i = 0; i < 30; i++) await page.pass(1);
  assert.deepEqual([page.sockets.length, page.peers.length], [1, 3]);
  assert.deepEqual(page.states, ["idle", "asking", "connecting", "no-webrtc"]);
});

test("a connection that dies without a word is noticed and resumed", async () => {
  const page = new FakePage();
  await page.talk();
  const [socket] = page.sockets;
  const speak = async (seconds, each = () => {}) => {
    for (let i = 0; i < 50 * seconds && page.sockets.length < 2; i++) {
      await page.pass(0.02);
      page.capture(960);
      page.controller.tick();
      if (i % 5 === 0) each(3 * i / 5);
    }
  };
  await speak(15, (n) => socket.receive(frames(n, 3)));
  assert.equal(page.controller.received, 450);
  const before = page.now;
  socket.took = () => (socket.bufferedAmount += 1920);
  await speak(15);
  const lostAfter = page.now - before;
  assert.ok(9.5 < lostAfter && lostAfter < 11);
  await page.sockets[1].accept({ audio_position: 48000 });
  assert.equal(JSON.parse(page.sockets[1].sent[0]).resume.next, 450);
  assert.deepEqual(page.states, ["idle", "asking", "connecting", "live", "reconnecting", "live"]);
});

test("a microphone that is off is no reason to miss the server", async () => {
  const page = new FakePage();
  await page.talk();
  page.capture(960);
  page.sockets[0].receive(frames(0, 3));
  await page.press("microphone");
  for (let i = 0; i < 300; i++) await page.pass(0.05);
  assert.equal(page.sockets.length, 1);
});

test("a server that takes the connection and says nothing is given up", async () => {
  const page = new FakePage();
  page.begin().setEmotion({ happy: 1 });
  for (let i = 0; i < 60; i++) {
    await page.pass(1);
    if (page.sockets.length > 0) page.sockets.at(-1).onopen();
  }
  assert.deepEqual(page.states, ["idle", "connecting", "reconnecting", "unreachable"]);
});

test("while the connection is away nothing is said to be connected", async () => {
  const page = new FakePage();
  const states = () => page.states.splice(0).join(" ");
  await page.talk();
  assert.equal(states(), "idle asking connecting live");
  page.sockets[0].onclose({ code: 1006, reason: "" });
  await page.press("microphone");
  assert.equal(states(), "reconnecting");
  await page.press("microphone");
  await page.requests.at(-1).give();
  assert.equal(states(), "asking reconnecting");
  await page.pass(1);
  await page.sockets[1].accept();
  assert.equal(states(), "live");
});

test("a session that ended is opened again, ever later, where that may help", () => {
  const retry = new Retry();
  assert.equal(retry.delayAfter({ code: "unreachable" }), null); // it was never there
  assert.equal(retry.delayAfter({ code: "internal" }), null);
  retry.succeeded();
  const delays = () => Array.from({ length: 4 }, () => retry.delayAfter({ code: "unreachable" }));
  assert.deepEqual(delays(), [2, 4, 8, null]);
  retry.succeeded();
  assert.equal(retry.delayAfter({ code: "lost" }), 1);
  assert.equal(retry.delayAfter({ code: "busy", retryAfterS: 4.2 }), 5);
});

// ---- microphones

test("a refusal that comes late stops no sound file", async () => {
  const page = new FakePage();
  page.begin();
  await page.press("microphone");
  page.controller.play(page.file);
  await settle();
  await page.sockets[0].accept();
  await page.requests[0].refuse("NotAllowedError");
  assert.notEqual(page.controller.playback, null);
  assert.equal(page.states.at(-1), "buffering");
  page.controller.stopFile();

  await page.press("microphone");
  let read;
  page.reading = new Promise((done) => (read = done));
  page.controller.play(page.file);
  await page.requests[1].refuse("NotAllowedError");
  assert.equal(page.states.at(-1), "loading");
  read();
  await settle();
  assert.notEqual(page.controller.playback, null);
});

test("a microphone that fails late does not stop the one chosen meanwhile", async () => {
  const page = new FakePage();
  page.devices = ["slow", "other"];
  page.begin();
  page.controls.device.append(new Option("slow", "slow"), new Option("other", "other"));
  await page.choose("slow");
  await page.press("microphone");
  await page.choose("other");
  await page.requests[1].give(new FakeTrack("other"));
  await page.sockets[0].accept();
  await page.requests[0].refuse("NotReadableError");
  assert.equal(page.controller.microphone?.deviceId, "other");
  assert.equal(page.states.at(-1), "live");
});

for (const [noticed, state] of [["as it goes", "gone"], ["at the next start", "no-microphone"]]) {
  test(`after a microphone was unplugged the usual one is asked for: ${noticed}`, async () => {
    const page = new FakePage();
    page.devices = ["headset"];
    page.begin();
    const track = new FakeTrack("headset");
    await page.press("microphone");
    await page.requests[0].give(track);
    assert.deepEqual(page.controls.device.options.map(({ value }) => value), ["", "headset"]);
    if (noticed === "as it goes") track.onended();
    else {
      await page.press("microphone");
      await page.press("microphone");
      await page.requests[1].refuse("OverconstrainedError");
    }
    assert.equal(page.states.at(-1), state);
    page.devices = ["other"];
    await page.press("microphone");
    assert.equal(page.requests.at(-1).constraints.audio.deviceId ?? null, null);
    await page.requests.at(-1).give(new FakeTrack("other"));
    assert.equal(page.controls.device.value, "other");
  });
}

function fail() {
  throw new DOMException("no", "NotSupportedError");
}

for (const media of ["socket", "webrtc"]) {
  for (const [what, breakIt, state] of [
    ["source", () => (AudioContext.prototype.createMediaStreamSource = fail), "microphone-busy"],
    ["worklet", () => (globalThis.AudioWorkletNode = fail), "microphone-busy"],
    ["context", () => (globalThis.AudioContext = fail), "microphone-busy"],
    ["module", (page) => (page.addModule = fail), "unreachable"],
  ]) {
    test(`a microphone without its ${what} is let go and told of, over ${media}`, async () => {
      const page = new FakePage();
      breakIt(page);
      page.begin(media);
      await page.press("microphone");
      const track = new FakeTrack("usual");
      await page.requests[0].give(track);
      assert.equal(track.readyState, "ended");
      for (const context of page.contexts) assert.equal(context.state, "closed");
      assert.equal(page.states.at(-1), state);
    });
  }
}

test("over WebRTC a microphone of another rate keeps the time of its track", async () => {
  const page = new FakePage();
  page.rate = 44100;
  AudioContext.prototype.createMediaStreamSource = function () {
    if (this.sampleRate !== page.rate) fail();
    return { connect() {}, disconnect() {} };
  };
  await page.talk("webrtc");
  for (let i = 0; i < 50; i++) {
    await page.pass(0.02);
    page.capture(882);
  }
  near(page.controller.live.position, 48000, 1);
  assert.deepEqual(page.contexts.map(({ sampleRate, state }) => [sampleRate, state]),
    [[48000, "closed"], [44100, "running"]]);
  assert.equal(page.states.at(-1), "live");
});

// ---- sound files

test("a sound file can be stopped while it is read", async () => {
  const page = new FakePage();
  page.begin();
  let read;
  page.reading = new Promise((done) => (read = done));
  page.controller.play(page.file);
  await settle();
  assert.deepEqual([page.states.at(-1), page.controls.stopFile.hidden], ["loading", false]);
  await page.press("stopFile");
  read();
  await settle();
  assert.deepEqual([page.states.at(-1), page.controls.stopFile.hidden], ["idle", true]);
  assert.deepEqual([page.controller.playback, page.sockets.length], [null, 0]);
});
