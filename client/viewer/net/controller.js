// What is on: a microphone session, a sound file, or nothing. It opens and closes sessions and
// hands their frames to one buffer; how a pose is drawn is not its business.

import { WebRtcSession } from "./webrtc-session.js";
import { FrameBuffer } from "./playout.js";
import { LiveStream } from "./live-stream.js";
import { Microphone } from "../audio/microphone.js";
import { NEUTRAL, mouthShut } from "../face/landmarks.js";
import { Retry } from "./retry.js";
import { Playback, decode } from "../audio/sound-file.js";
import { emotion, identity, start } from "./protocol.js";
import { Session } from "./session.js";

const LINGER_S = 20; // a live session without a microphone is kept so long
const UNHEARD_S = 4;
const UNHEARD_RMS = 1e-4;
const SILENT_RATE = 16000; // of a session that is opened by the dial alone
const CALL_RATE = 48000; // of WebRTC, whatever the microphone has

export class Controller {
  /** Calls `onState(state, details)` and `onAudio(samples)`. */
  constructor({ url, window, iceServers, life, onState, onAudio }) {
    Object.assign(this, { url, window, iceServers, life, onState, onAudio });
    this.seed = Math.floor(Math.random() * 2 ** 31); // blinks and nods of this visit
    this.media = "socket"; // of the next session with a microphone; or "webrtc"
    this.retry = new Retry();
    this.weights = {};
    this.look = { rest: NEUTRAL, identity: null };
    this.frames = new FrameBuffer(NEUTRAL);
    this.received = 0;
    this.resting = true;
    this.dropReason = null; // why the newest dropped frames were dropped
    this.opening = null; // the microphone that is asked for, or the sound file that is read
    this.#forgetSession();
  }

  #forgetSession() {
    this.session = null;
    this.live = null;
    this.playback = null;
    this.retryS = null; // how long the lost connection was told to wait
    this.microphone ??= null;
  }

  /** @returns {number} frames of this session that did not come */
  get dropped() {
    return this.session?.dropped ?? 0;
  }

  // ---- microphone

  async startMicrophone(deviceId) {
    this.stopFile();
    this.retry.reset();
    this.onState("asking");
    const opening = (this.opening = Symbol("opening"));
    const calls = this.media === "webrtc";
    let microphone;
    try {
      microphone = await Microphone.open({
        deviceId,
        rate: calls ? CALL_RATE : null,
        onAudio: (samples, length) => this.#captured(samples, length),
        onGone: () => {
          this.stopMicrophone();
          this.onState("gone");
        },
      });
    } catch (error) {
      if (this.opening === opening) throw error;
      return; // something else was begun meanwhile, and goes on
    }
    if (this.opening !== opening) return microphone.close();
    this.opening = null;
    this.microphone = microphone;
    this.lastLoud = now();
    const same = calls === this.session instanceof WebRtcSession;
    if (same && this.live?.rate === microphone.rate) {
      if (calls) this.session.use(microphone.track);
      this.#showLive();
    } else this.#openLive(microphone.rate);
  }

  stopMicrophone() {
    this.opening = null;
    this.microphone?.close();
    this.microphone = null;
    this.usedAt = now();
    if (this.live) this.#showLive();
    else {
      this.#leave();
      this.onState("idle");
    }
  }

  #captured(samples, length) {
    this.onAudio(samples);
    this.live?.captured(samples, now(), length);
    let peak = 0;
    for (let i = 0; i < samples.length; i += 4) peak = Math.max(peak, Math.abs(samples[i]));
    if (peak > UNHEARD_RMS) this.lastLoud = now();
  }

  #openLive(rate) {
    this.#leave();
    const session = this.#open(rate, "live", {
      ready: (ready, resumed) => {
        this.live.ready(ready, resumed);
        this.retry.succeeded();
        if (!this.microphone) this.live.nudge(now());
        this.#showLive();
      },
      frames: (n) => this.live.arrived(n, now()),
    });
    this.live = new LiveStream(session, this.window);
    this.usedAt = now();
  }

  #showLive() {
    if (this.session.open) this.onState(this.microphone ? "live" : "quiet");
    else if (this.retryS === null) this.onState("connecting");
    else this.onState("reconnecting", { wait: this.retryS });
  }

  /** What a session begins with has changed: a live one begins anew. */
  renew() {
    if (this.live) this.#openLive(this.live.rate);
  }

  // ---- sound file

  /** @param {File} file */
  async play(file) {
    this.stopMicrophone();
    this.stopFile();
    const loading = (this.opening = Symbol("loading"));
    this.file = file.name;
    this.onState("loading", { file: file.name });
    let sound;
    try {
      sound = await decode(file);
    } catch {
      if (this.opening !== loading) return;
      this.opening = null;
      this.onState("unreadable", { file: file.name });
      return;
    }
    if (this.opening !== loading) return void sound.context.close();
    this.opening = null;
    const rate = sound.buffer.sampleRate;
    this.#leave();
    const session = this.#open(rate, "file", {
      ready: (ready) => this.playback.ready(ready),
      frames: () => {},
    });
    this.playback = new Playback(sound.context, sound.buffer, session);
    this.onState("buffering", { file: this.file });
  }

  stopFile() {
    if (!this.playback && !this.opening) return;
    this.opening = null;
    this.#leave();
    this.onState("idle");
  }

  // ---- both

  /** @param {import("./protocol.js").Weights} weights */
  setEmotion(weights) {
    this.weights = weights;
    this.usedAt = now();
    if (this.playback) this.session.send(emotion(weights));
    else if (this.live) {
      this.session.send(emotion(weights));
      this.live.nudge(now());
    } else if (!this.microphone && !this.opening) {
      this.retry.reset();
      this.onState("connecting");
      this.#openLive(SILENT_RATE);
    }
  }

  /** Another face from now on; frames of the one before are brought to it. */
  setLook(look) {
    this.look = look;
    this.frames.show(look.rest);
    this.#sendLook();
  }

  #sendLook() {
    if (this.lookSent === this.look || !this.session?.open) return;
    if (this.session.send(identity(this.look.identity))) this.lookSent = this.look;
  }

  /** To be called every 50 ms or so. */
  tick() {
    const time = now();
    this.live?.tick(time);
    if (this.live && !this.microphone && time - this.usedAt > LINGER_S) {
      this.#leave();
      this.onState("idle");
    }
    if (this.microphone && this.session?.open) {
      this.onState(time - this.lastLoud > UNHEARD_S ? "unheard" : "live");
    }
    if (this.playback) {
      const state = this.playback.tick(this.frames.last, time);
      if (this.session.open || state !== "buffering") this.onState(state, { file: this.file });
      if (state === "done") this.#leave();
    }
  }

  /**
   * Writes the pose of this moment into `out` (136,).
   * @returns {{n: number, latency: number | null}} the frame (-1: none) and its age in seconds
   */
  pose(out) {
    const time = now();
    const position = this.live?.frameAt(time) ?? this.playback?.frameAt(time) ?? null;
    const n = this.frames.pose(position, time, out);
    if (this.frames.restWeight === 0) this.resting = false;
    else if (!this.resting) this.#rest();
    const talking = this.live && this.microphone && this.frames.restWeight < 1;
    return { n, latency: talking ? this.live.latency(n, time) : null };
  }

  // The pose to ease to: the plain face, or with an emotion on, the last one with its mouth shut.
  #rest() {
    this.resting = true;
    const active = Object.keys(this.weights).some((name) => name !== "neutral");
    this.frames.rest = active ? mouthShut(this.frames.lastFrame) : this.look.rest;
  }

  #open(rate, mode, { ready, frames }) {
    const calls = this.media === "webrtc" && mode === "live" && this.microphone;
    const media = calls ? "webrtc" : "socket";
    const { life, seed, weights } = this;
    const { identity: face, rest } = this.look;
    const message = start({
      rate, mode, media, ...this.window, life, seed, emotion: weights, identity: face,
    });
    const weightsAtStart = this.weights;
    const lookAtStart = (this.lookSent = this.look);
    const fresh = new FrameBuffer(rest, this.frames.rest, this.frames.lastFrame);
    this.onState("connecting");
    this.frames = fresh;
    const session = new (calls ? WebRtcSession : Session)({
      url: this.url,
      start: message,
      track: this.microphone?.track,
      iceServers: this.iceServers,
      listener: {
        ready: (message, resumed) => {
          ready(message, resumed);
          if (resumed || this.weights !== weightsAtStart) session.send(emotion(this.weights));
          if (resumed && this.look !== lookAtStart) this.lookSent = null; // it may have been lost
          this.#sendLook();
        },
        frames: (n, batch) => {
          this.received += batch.length;
          fresh.push(n, batch);
          frames(n);
        },
        message: (message) => {
          if (message.type === "identity") fresh.comeAs(message.n, this.#faceOf(message.points));
          else this.#received(message);
        },
        lost: (wait) => {
          this.retryS = Math.ceil(wait);
          this.onState("reconnecting", { wait: this.retryS });
        },
        closed: (reason) => this.#closed(reason, rate),
      },
    });
    this.session = session;
    return session;
  }

  // The look's own array where it is that face, so that its frames are drawn as they come.
  #faceOf(points) {
    const face = Float32Array.from(points.flat());
    const { rest } = this.look;
    return face.every((v, i) => Math.abs(v - rest[i]) < 1e-3) ? rest : face;
  }

  #received(message) {
    if (message.type === "end" && this.playback) this.playback.complete = true;
    if (message.type === "dropped") this.dropReason = message.reason;
    if (message.type === "error" && message.code === "too_fast") {
      // Which message was refused is not known, so the account of time is lost: begin anew.
      const { rate } = this.session;
      if (this.live) this.#openLive(rate);
    }
  }

  #closed(reason, rate) {
    const { code, message } = reason;
    if (code === "end" && this.playback) return;
    const file = this.playback;
    this.#leave();
    if (code === "end" || (code === "idle" && !this.microphone)) return this.onState("idle");
    const seconds = file ? null : this.retry.delayAfter(reason);
    if (seconds !== null) {
      const show = (wait) => this.onState(code === "busy" ? "busy" : "reconnecting", { wait });
      const again = () => this.#openLive(this.microphone?.rate ?? rate);
      return this.retry.wait(seconds, show, again);
    }
    this.opening = null;
    this.microphone?.close();
    this.microphone = null;
    this.onState(code === "busy" ? "full" : code, { message });
  }

  #leave() {
    this.retry.stop();
    this.playback?.close();
    this.session?.close();
    this.#forgetSession();
  }
}

const now = () => performance.now() / 1000;
