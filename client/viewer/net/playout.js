// When a frame is shown. Pure arithmetic: every time is passed in, in seconds of one clock.

import { FPS, WIDTH } from "./protocol.js";
import { retargeting } from "../face/landmarks.js";

const KEPT_BEHIND = 60; // frames kept behind the one shown
const KEPT_MOST = 45 * FPS; // a page in the background draws nothing, so nothing grows old there
const BRIDGED = 15; // a hole of at most so many dropped frames is drawn as one movement
const STARVED_AFTER = 4; // frames past the newest, before the face eases to rest
const EASE_TO_REST_S = 0.35;
const EASE_BACK_S = 0.12;

/**
 * Frames by number, in the coordinates of the face that the server has; the pose at any moment
 * between them, in the coordinates of the face that is shown.
 */
export class FrameBuffer {
  /**
   * All (136,). `face`: shown, at rest, and that of the frames; `rest`: the pose while no frame is
   * there; `held`: the pose before the first frame.
   */
  constructor(face, rest = face, held = rest) {
    /** @type {Map<number, Float32Array>} */
    this.frames = new Map();
    this.last = -1;
    this.shown = -1;
    this.restWeight = 1;
    Object.assign(this, { face, rest, held });
    this.faces = [{ n: 0, face }]; // from which frame on the server's answer is of which face
    this.time = 0;
  }

  /** @param {number} n @param {Float32Array[]} frames consecutive, from frame n */
  push(n, frames) {
    frames.forEach((frame, k) => this.frames.set(n + k, frame));
    for (const oldest of this.frames.keys()) {
      if (this.frames.size <= KEPT_MOST) break;
      this.frames.delete(oldest);
    }
    if (n + frames.length - 1 > this.last) {
      this.last = n + frames.length - 1;
      this.newest = frames[frames.length - 1];
    }
  }

  /** The newest frame's pose, of the face that is shown. */
  get lastFrame() {
    return this.last < 0 ? this.held : this.#shownAs(this.newest, this.last);
  }

  /** Another face is shown from now on. @param {Float32Array} face (136,) at rest */
  show(face) {
    const here = retargeting(this.face, face);
    this.rest = this.rest === this.face ? face : here(this.rest);
    this.held = here(this.held);
    this.face = face;
    for (const entry of this.faces) entry.bring = null;
  }

  /** Frames from n on come in the coordinates of this face. */
  comeAs(n, face) {
    this.faces = this.faces.filter((entry) => entry.n < n);
    this.faces.push({ n, face });
  }

  /** @returns {Float32Array | null} frame n as the face that is shown, if it is still kept */
  at(n) {
    const frame = this.frames.get(n);
    return frame ? this.#shownAs(frame, n) : null;
  }

  #shownAs(frame, n) {
    const entry = this.faces.findLast((candidate) => candidate.n <= n) ?? this.faces[0];
    if (entry.face === this.face) return frame;
    entry.bring ??= retargeting(entry.face, this.face);
    return entry.bring(frame);
  }

  /**
   * Writes the pose at frame `position` (a fraction lies between two frames).
   * @param {number | null} position null: nothing plays @param {Float32Array} out (136,)
   * @returns {number} the position really shown, at most the newest frame; -1 for none
   */
  pose(position, now, out) {
    const elapsed = Math.min(0.1, Math.max(0, now - this.time));
    this.time = now;
    const starved =
      position === null || this.last < 0 || position < -1 || position > this.last + STARVED_AFTER;
    const step = starved ? elapsed / EASE_TO_REST_S : -elapsed / EASE_BACK_S;
    this.restWeight = Math.max(0, Math.min(1, this.restWeight + step));
    if (position !== null && this.last >= 0) {
      this.shown = Math.max(this.shown, Math.min(Math.max(position, 0), this.last));
    }
    this.#between(this.shown, out);
    const w = this.restWeight * this.restWeight * (3 - 2 * this.restWeight);
    for (let i = 0; w > 0 && i < WIDTH; i++) out[i] += w * (this.rest[i] - out[i]);
    this.#forget();
    return this.shown;
  }

  #between(position, out) {
    const before = this.#nearest(Math.floor(position), -1);
    const after = this.#nearest(Math.floor(position) + 1, 1);
    if (before === null && after === null) {
      out.set(this.lastFrame);
      return;
    }
    const [first, second] = [before ?? after, after ?? before];
    const [from, to] = [this.at(first), this.at(second)];
    const span = second - first;
    const share = span > 0 ? (position - before) / span : 0;
    for (let i = 0; i < WIDTH; i++) out[i] = from[i] + share * (to[i] - from[i]);
  }

  #nearest(n, step) {
    for (let k = 0; k <= BRIDGED; k++) if (this.frames.has(n + step * k)) return n + step * k;
    return null;
  }

  #forget() {
    for (const n of this.frames.keys()) {
      if (n >= this.shown - KEPT_BEHIND) break;
      this.frames.delete(n);
    }
  }
}

const LEARNT_FROM_S = 3;

/** When each sample of a microphone was captured, learnt from when its chunks came. */
export class CaptureClock {
  /** @param {number} rate samples a second */
  constructor(rate) {
    this.rate = rate;
    /** @type {{zero: number, at: number}[]} from chunks, each less than those after it */
    this.estimates = [];
  }

  /** @returns {number | null} the time of sample 0, in seconds */
  get zero() {
    return this.estimates[0]?.zero ?? null;
  }

  /**
   * A chunk that ends before sample `end` has come. The least delayed chunk of the last seconds
   * tells the truth: samples that a device lost, and two clocks that drift apart, move it.
   * @returns {number} seconds by which sample 0 is thought later than before
   */
  chunk(end, now) {
    const before = this.zero;
    const zero = now - end / this.rate;
    while (this.estimates.length > 0 && this.estimates.at(-1).zero >= zero) this.estimates.pop();
    this.estimates.push({ zero, at: now });
    while (this.estimates[0].at < now - LEARNT_FROM_S) this.estimates.shift();
    return before === null ? 0 : this.zero - before;
  }

  /** Nothing is known until the next sample. */
  forget() {
    this.estimates = [];
  }

  /** Sample `end` is due at `now`, whatever was known before: time stood still meanwhile. */
  rebase(end, now) {
    this.estimates = [{ zero: now - end / this.rate, at: now }];
  }

  /** @param {number} n frame, or a fraction between two @returns {number | null} seconds */
  spoken(n) {
    return this.zero === null ? null : this.zero + n / FPS;
  }
}

const LAGS_KEPT = 40;
const MARGIN_S = 0.012;
const DELAY_MOST_S = 1.5;

/** The delay of the face behind the voice: nearly every frame comes in time; it changes slowly. */
export class Delay {
  /** @param {number} expected seconds, from the server's own latency */
  constructor(expected) {
    this.seconds = expected;
    this.lags = [];
    this.time = null;
  }

  /** What was learnt was learnt under another clock. */
  forget() {
    this.lags = [];
  }

  /** The clock of the voice was moved by so many seconds; the face stays where it is. */
  moved(by) {
    if (by === 0) return; // as nearly always
    this.seconds = Math.max(0, this.seconds - by);
    this.lags = this.lags.map((lag) => lag - by);
  }

  /** @param {number} lag seconds from a frame's being spoken to its arrival */
  arrived(lag) {
    this.lags.push(lag);
    if (this.lags.length > LAGS_KEPT) this.lags.shift();
  }

  /** @param {number} now @returns {number} seconds */
  at(now) {
    const elapsed = this.time === null ? 0 : Math.min(0.1, Math.max(0, now - this.time));
    this.time = now;
    if (this.lags.length >= 3) {
      const second = this.lags.toSorted((a, b) => b - a)[1];
      const target = Math.min(DELAY_MOST_S, second + 1 / FPS + MARGIN_S);
      const change = target - this.seconds;
      this.seconds += Math.max(-0.06 * elapsed, Math.min(0.35 * elapsed, change));
    }
    return this.seconds;
  }
}

/** A smooth reading of a clock that moves in steps (an audio device's), while it runs. */
export class SteadyClock {
  constructor() {
    this.value = null;
    this.time = 0;
  }

  /** @param {number} reading of the device, seconds @param {boolean} running or standing still */
  read(reading, now, running) {
    const elapsed = now - this.time;
    this.time = now;
    if (this.value === null || !running || Math.abs(reading - this.value) > 0.15) {
      this.value = reading;
    } else {
      this.value += elapsed;
      this.value += 0.08 * (reading - this.value);
    }
    return this.value;
  }
}
