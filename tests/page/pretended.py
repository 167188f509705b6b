"""The page's modules in a browser where the network, the microphone and the clock are pretended, so
that whatever may go wrong with them does, and at once.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.page.browser import chromium, files_served
from tests.page.page import ROOT

VIEWER: Final = ROOT / "client" / "viewer"

# `p`: what the modules meet in the place of the browser's own. Nothing happens but by the test.
PRETENDED: Final = """
const p = (globalThis.p = {
  now: 0, timers: [], sockets: [], peers: [], asks: [], worklets: [], contexts: [], devices: [],
  reading: null, // what decoding a sound file waits for
  addModule() {}, // of an audio worklet
  settle: async () => { for (let i = 0; i < 30; i++) await null; },
});
let timers = 0;
performance.now = () => 1000 * p.now;
globalThis.setTimeout = (act, ms = 0) => {
  p.timers.push({ id: ++timers, at: p.now + ms / 1000, act });
  return timers;
};
globalThis.clearTimeout = (id) => (p.timers = p.timers.filter((timer) => timer.id !== id));
p.pass = async (seconds) => {
  p.now += seconds;
  for (let due; (due = p.timers.find(({ at }) => at <= p.now)); await p.settle()) {
    clearTimeout(due.id);
    due.act();
  }
  await p.settle();
};
globalThis.WebSocket = class {
  bufferedAmount = 0;
  sent = [];
  constructor() { p.sockets.push(this); }
  send(message) {
    this.sent.push(message);
    this.took?.(message instanceof ArrayBuffer ? message : JSON.parse(message));
  }
  close(code) { this.closed = code; } // and a dead connection never says that it is closed
  say(message) {
    const text = message instanceof ArrayBuffer ? message : JSON.stringify(message);
    this.onmessage({ data: text });
  }
  async accept(more = {}) {
    const limits = { resume_s: 30 };
    this.onopen();
    this.say({ type: "ready", resume: "token", audio_position: 0, n: 0, limits, ...more });
    await p.settle();
  }
};
globalThis.RTCPeerConnection = class extends EventTarget {
  iceGatheringState = "complete";
  signalingState = "have-local-offer";
  localDescription = { sdp: "offer" };
  constructor() { super(); p.peers.push(this); }
  addTransceiver() { return { sender: { replaceTrack: async () => {} } }; }
  createDataChannel() {
    return (this.channel = Object.assign(new EventTarget(), { readyState: "connecting" }));
  }
  async createOffer() { return {}; }
  async setLocalDescription() {}
  close() {}
  async open() {
    this.channel.readyState = "open";
    this.channel.onopen({});
    await p.settle();
  }
  async fail() {
    this.connectionState = "failed";
    this.onconnectionstatechange?.({});
    await p.settle();
  }
};
p.Track = class {
  readyState = "live";
  constructor(deviceId) { this.deviceId = deviceId; }
  getSettings() { return { deviceId: this.deviceId }; }
  stop() { this.readyState = "ended"; }
};
const media = Object.assign(new EventTarget(), {
  enumerateDevices: async () =>
    p.devices.map((deviceId) => ({ kind: "audioinput", deviceId, label: deviceId })),
  getUserMedia: (wanted) => new Promise((give, refuse) => p.asks.push({
    wanted,
    give: async (track = new p.Track("usual")) => {
      give({ getTracks: () => [track], getAudioTracks: () => [track] });
      await p.settle();
    },
    refuse: async (name) => {
      refuse(Object.assign(new Error(name), { name }));
      await p.settle();
    },
  })),
});
Object.defineProperty(navigator, "mediaDevices", { value: media });
p.rate = 48000; // of the device
globalThis.AudioContext = class {
  state = "running";
  currentTime = 0;
  audioWorklet = { addModule: async () => p.addModule() };
  constructor({ sampleRate = p.rate }) { this.sampleRate = sampleRate; p.contexts.push(this); }
  createMediaStreamSource() { return { connect() {}, disconnect() {} }; }
  createBufferSource() { return { connect() {}, start() {} }; }
  async resume() {}
  async suspend() {}
  close() { this.state = "closed"; }
  async decodeAudioData() {
    await p.reading;
    const [sampleRate, length] = [48000, 480000];
    const silence = new Float32Array(length);
    return { sampleRate, length, numberOfChannels: 1, getChannelData: () => silence };
  }
};
globalThis.AudioWorkletNode = class {
  port = {};
  constructor() { p.worklets.push(this); }
};
p.hear = (samples) => {
  p.worklets.at(-1).port.onmessage({ data: new Float32Array(samples).fill(0.1) });
};
p.file = { name: "a.wav", arrayBuffer: async () => new ArrayBuffer(4) };
p.frames = (first, count) => {
  const view = new DataView(new ArrayBuffer(24 + 544 * count));
  view.setUint32(0, 0x314c464b, true);
  view.setUint8(4, 1);
  view.setUint16(6, count, true);
  view.setBigUint64(8, BigInt(first), true);
  for (let at = 24; at < view.byteLength; at += 4) view.setFloat32(at, 100, true);
  return view.buffer;
};

const { Stage } = await import("/net/stage.js");
const { VoiceControls } = await import("/audio/voice.js");
const element = (name) => document.body.appendChild(document.createElement(name));
p.controls = {
  microphone: element("button"), words: element("span"), device: element("select"),
  file: element("input"), stopFile: element("button"),
};
p.controls.device.append(new Option("The usual one", ""));
p.told = ["idle"];
p.begin = (media = "socket") => {
  let voice = null;
  const tell = (state) => {
    if (p.told.at(-1) !== state) p.told.push(state);
    voice?.show();
  };
  const window = { hop: 3, lookahead: 3 };
  const stage = new Stage({ url: "", window, iceServers: [], life: 0, told: tell, heard() {} });
  stage.media = media;
  voice = new VoiceControls(p.controls, stage, { state: () => p.told.at(-1), tell });
  p.stage = stage;
  return stage;
};
p.press = async (name) => {
  p.controls[name].click();
  await p.settle();
};
p.choose = async (device) => {
  p.controls.device.value = device;
  p.controls.device.dispatchEvent(new Event("change"));
  await p.settle();
};
/** A microphone that is on, its session begun. */
p.talk = async (media) => {
  p.begin(media);
  await p.press("microphone");
  await p.asks.at(-1).give();
  await p.sockets.at(-1).accept();
  if (media === "webrtc") await p.peers.at(-1).open();
};
"""


class Pretence:
    """A page of which only the modules are real."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def play(self, body: str, *arguments: Any) -> Any:
        """What ``body`` returns, given arguments ``a``, in a page that begins anew."""
        self.driver.get(f"{self.url}/ui/words.js")  # a page that does nothing by itself
        script = f"""
            const [a, done] = arguments;
            (async () => {{ {PRETENDED}; {body} }})()
              .then((value) => done({{ value }}), (error) => done({{ error: error.stack }}));
        """
        answer = self.driver.execute_async_script(script, arguments)
        assert "error" not in answer, answer["error"]
        return answer.get("value")


@contextmanager
def pretence(folder: Path) -> Generator[Pretence]:
    """``folder``: for the browser's own files."""
    with (
        files_served(VIEWER) as url,
        chromium(folder / "no.wav", folder / "profile", "disable-gpu") as driver,
    ):
        yield Pretence(driver, url)
