// The silence that a live source owes the server when it has stopped talking. Time moves only
// with audio, so without it the last frames of an utterance would wait for the next one.

import { FPS } from "./protocol.js";

const WAIT_S = 0.1;
const BEYOND_S = 0.4;

/** Pure arithmetic; the times are passed in, in seconds. */
export class SilenceOwed {
  /** @param {number} rate samples a second @param {number} frames hop + lookahead */
  constructor(rate, frames) {
    this.rate = rate;
    this.most = frames / FPS + BEYOND_S;
    this.limit = this.most;
    this.wait = WAIT_S;
    this.since = null; // when the last audio ended
    this.paid = 0; // samples
    this.ticks = 0; // polls since the last audio: one late poll is the page's stall, not a gap
  }

  /** The gap so far was filled with less than the time it took. */
  get stoodStill() {
    return this.paid >= Math.round(this.limit * this.rate);
  }

  /** Audio starts and ends at these times. @returns {number} samples of silence to send first */
  audio(startsAt, endsAt) {
    const owed = this.paid > 0 ? this.#owed(startsAt) : 0;
    Object.assign(this, { since: endsAt, paid: 0, ticks: 0, limit: this.most, wait: WAIT_S });
    return owed;
  }

  /** Lets time run on from `now` although nothing is said: something else changes the face. */
  nudge(now) {
    if (this.since !== null && !this.stoodStill) {
      this.limit = now - this.since + this.most;
      return;
    }
    Object.assign(this, { since: now, paid: 0, ticks: 1, limit: this.most, wait: 0 });
  }

  /** @param {number} now @returns {number} samples of silence to send now */
  due(now) {
    if (this.since === null || now - this.since < this.wait) return 0;
    this.ticks += 1;
    return this.ticks < 2 ? 0 : this.#owed(now);
  }

  #owed(now) {
    const elapsed = Math.min(this.limit, Math.max(0, now - this.since));
    const samples = Math.max(0, Math.round(elapsed * this.rate) - this.paid);
    this.paid += samples;
    return samples;
  }
}
