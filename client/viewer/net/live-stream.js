// A live session: what is said now becomes the face a moment later. It keeps the one account
// of time, in samples since the session began, through gaps and lost connections.

import { FPS, s16le } from "./protocol.js";
import { CaptureClock, Delay } from "./playout.js";
import { SilenceOwed } from "./silence.js";

const BACKLOG_MOST_S = 1;
const BYTES_PER_SAMPLE = 2;
const EXPECTED_EXTRA_S = 0.07;

export class LiveStream {
  /** @param {import("./session.js").Session} session in mode live */
  constructor(session, { hop, lookahead }) {
    this.session = session;
    this.rate = session.rate;
    this.position = 0; // samples that have gone by, sent or not
    this.clock = new CaptureClock(this.rate);
    this.delay = new Delay((hop + lookahead) / FPS + EXPECTED_EXTRA_S);
    this.owed = new SilenceOwed(this.rate, hop + lookahead);
    this.learnFrom = 0; // frames before this waited for silence: their lag teaches nothing
    this.started = false;
    this.skipped = 0; // samples that the network was too slow for
  }

  /** The server has answered: sample 0 is the next one, or time goes on after a loss. */
  ready(ready, resumed) {
    this.started = true;
    if (!resumed) return;
    if (this.session.keepsTime) {
      this.position = ready.audio_position; // of the next sample that is captured
      this.clock.forget();
    } else this.session.silence(this.position - ready.audio_position);
    this.learnFrom = (this.position * FPS) / this.rate;
  }

  /** Samples were just captured; `length` of them at the session's rate, if theirs differs. */
  captured(samples, now, length) {
    if (!this.started) return;
    const stoodStill = this.clock.zero === null || this.owed.stoodStill;
    this.#silence(this.owed.audio(now - length / this.rate, now));
    this.position += length;
    if (this.session.backlog > BACKLOG_MOST_S * this.rate * BYTES_PER_SAMPLE) {
      this.skipped += length;
      this.session.silence(length);
    } else {
      this.session.audio(s16le(samples));
    }
    if (stoodStill) this.#beginAnew(now);
    else this.delay.moved(this.clock.chunk(this.position, now));
  }

  /** To be called every 50 ms or so: fills gaps with silence. */
  tick(now) {
    if (this.started) this.#silence(this.owed.due(now));
  }

  /** The dial moved: the face should follow even while nobody speaks. */
  nudge(now) {
    if (!this.started) return;
    if (this.clock.zero === null || this.owed.stoodStill) this.#beginAnew(now);
    this.owed.nudge(now);
  }

  /** A batch of frames came in. */
  arrived(n, now) {
    const spoken = this.clock.spoken(n);
    if (spoken !== null && n >= this.learnFrom) this.delay.arrived(now - spoken);
  }

  /** @param {number} now @returns {number | null} the frame to show, with its fraction */
  frameAt(now) {
    const zero = this.clock.spoken(0);
    return zero === null ? null : (now - this.delay.at(now) - zero) * FPS;
  }

  /** @returns {number | null} seconds from a frame's being spoken to now */
  latency(shown, now) {
    const spoken = this.clock.spoken(shown);
    return spoken === null || shown < 0 ? null : now - spoken;
  }

  #beginAnew(now) {
    this.clock.rebase(this.position, now);
    this.delay.forget();
  }

  #silence(samples) {
    if (samples <= 0) return;
    if (!this.session.silence(samples) && this.session.keepsTime) return;
    this.position += samples;
    this.learnFrom = (this.position * FPS) / this.rate;
  }
}
