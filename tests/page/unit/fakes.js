// The page's modules where the network, the microphone and the clock are fakes, so that whatever
// may go wrong with them does, and at once. Nothing happens but by the test.

import { InputControls } from "../../../client/viewer/audio/input-controls.js";
import { Controller } from "../../../client/viewer/net/controller.js";

const MAGIC = 0x314c464b;

class Element extends EventTarget {
  value = "";
  hidden = false;
  textContent = "";
  options = [];
  setAttribute() {}
  append(...options) { this.options.push(...options); }
  replaceChildren(...options) { this.options = options; }
  click() { this.dispatchEvent(new Event("click")); }
}

class FakeSocket {
  bufferedAmount = 0;
  sent = [];
  send(message) {
    this.sent.push(message);
    this.took?.(message instanceof ArrayBuffer ? message : JSON.parse(message));
  }
  close(code) { this.closed = code; } // and a dead connection never says that it is closed
  receive(message) {
    this.onmessage({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  }
  async accept(more = {}) {
    const limits = { resume_s: 30 };
    this.onopen();
    this.receive({ type: "ready", resume: "token", audio_position: 0, n: 0, limits, ...more });
    await settle();
  }
}

class FakePeer extends EventTarget {
  iceGatheringState = "complete";
  signalingState = "have-local-offer";
  localDescription = { sdp: "offer" };
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
    await settle();
  }
  async fail() {
    this.connectionState = "failed";
    this.onconnectionstatechange?.({});
    await settle();
  }
}

export class FakeTrack {
  readyState = "live";
  constructor(deviceId) { this.deviceId = deviceId; }
  getSettings() { return { deviceId: this.deviceId }; }
  stop() { this.readyState = "ended"; }
}

export async function settle() {
  for (let i = 0; i < 30; i++) await null;
}

/** @returns binary frames `first` .. of points that are all 100 */
export function frames(first, count) {
  const view = new DataView(new ArrayBuffer(24 + 544 * count));
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, 1);
  view.setUint16(6, count, true);
  view.setBigUint64(8, BigInt(first), true);
  for (let at = 24; at < view.byteLength; at += 4) view.setFloat32(at, 100, true);
  return view.buffer;
}

/** A page of which only the modules are real. It lays its fakes over what is global. */
export class FakePage {
  now = 0; // seconds
  rate = 48000; // of the device
  devices = [];
  sockets = [];
  peers = [];
  requests = []; // for a microphone
  contexts = [];
  worklets = [];
  states = ["idle"];
  reading = null; // what decoding a sound file waits for
  file = { name: "a.wav", arrayBuffer: async () => new ArrayBuffer(4) };
  #timers = [];
  #timer = 0;

  constructor() {
    const page = this;
    const listed = (list, base) => class extends base {
      constructor(...given) {
        super(...given);
        list.push(this);
      }
    };
    const mediaDevices = Object.assign(new EventTarget(), {
      enumerateDevices: async () => page.devices.map((deviceId) =>
        ({ kind: "audioinput", deviceId, label: deviceId })),
      getUserMedia: (constraints) => page.#microphone(constraints),
    });
    const fakes = {
      performance: { now: () => 1000 * page.now },
      isSecureContext: true,
      navigator: { mediaDevices },
      document: { body: { classList: { toggle() {} } } },
      addEventListener() {},
      Option: class { constructor(label, value) { Object.assign(this, { label, value }); } },
      setTimeout: (act, ms = 0) => {
        page.#timers.push({ id: ++page.#timer, at: page.now + ms / 1000, act });
        return page.#timer;
      },
      clearTimeout: (id) => (page.#timers = page.#timers.filter((timer) => timer.id !== id)),
      WebSocket: listed(page.sockets, FakeSocket),
      RTCPeerConnection: listed(page.peers, FakePeer),
      AudioContext: page.#audioContext(),
      AudioWorkletNode: listed(page.worklets, class { port = {}; }),
    };
    for (const [name, value] of Object.entries(fakes)) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    this.controls = Object.fromEntries(
      ["microphone", "words", "device", "file", "stopFile"].map((name) => [name, new Element()]));
    this.controls.device.append(new Option("The usual one", ""));
  }

  #microphone(constraints) {
    return new Promise((give, refuse) => this.requests.push({
      constraints,
      give: async (track = new FakeTrack("usual")) => {
        give({ getTracks: () => [track], getAudioTracks: () => [track] });
        await settle();
      },
      refuse: async (name) => {
        refuse(Object.assign(new Error(name), { name }));
        await settle();
      },
    }));
  }

  #audioContext() {
    const page = this;
    return class {
      state = "running";
      currentTime = 0;
      audioWorklet = { addModule: async () => page.addModule?.() };
      constructor({ sampleRate = page.rate }) {
        this.sampleRate = sampleRate;
        page.contexts.push(this);
      }
      createMediaStreamSource() { return { connect() {}, disconnect() {} }; }
      createBufferSource() { return { connect() {}, start() {} }; }
      async resume() {}
      async suspend() {}
      close() { this.state = "closed"; }
      async decodeAudioData() {
        await page.reading;
        const [sampleRate, length] = [48000, 480000];
        const silence = new Float32Array(length);
        return { sampleRate, length, numberOfChannels: 1, getChannelData: () => silence };
      }
    };
  }

  /** Lets time pass, and whatever is due in it happen. */
  async pass(seconds) {
    this.now += seconds;
    for (let due; (due = this.#timers.find(({ at }) => at <= this.now)); await settle()) {
      clearTimeout(due.id);
      due.act();
    }
    await settle();
  }

  begin(media = "socket") {
    let input = null;
    const setState = (state) => {
      if (this.states.at(-1) !== state) this.states.push(state);
      input?.show();
    };
    this.controller = new Controller({
      url: "", window: { hop: 3, lookahead: 3 }, iceServers: [], life: 0,
      onState: setState, onAudio() {},
    });
    this.controller.media = media;
    const state = () => this.states.at(-1);
    input = new InputControls(this.controls, this.controller, { state, setState });
    return this.controller;
  }

  async press(name) {
    this.controls[name].click();
    await settle();
  }

  async choose(device) {
    this.controls.device.value = device;
    this.controls.device.dispatchEvent(new Event("change"));
    await settle();
  }

  /** A chunk of the microphone. */
  capture(samples) {
    this.worklets.at(-1).port.onmessage({ data: new Float32Array(samples).fill(0.1) });
  }

  /** A microphone that is on, its session begun. */
  async talk(media) {
    this.begin(media);
    await this.press("microphone");
    await this.requests.at(-1).give();
    await this.sockets.at(-1).accept();
    if (media === "webrtc") await this.peers.at(-1).open();
  }
}
