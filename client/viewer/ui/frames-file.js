// The frames of a recording as JSON Lines, in the form in which `python -m client file --out`
// writes them, with the emotion that was asked for beside each.

import { FPS } from "../net/protocol.js";
import { pairs } from "../face/landmarks.js";

const APART_MOST = 8; // frames between a frame's number and the time that passed
const LINES_A_PART = 300;

/** Gathers frames as they are shown; frame n is that shown n / 30 s after the beginning. */
export class FramesFile {
  constructor() {
    /** @type {{n: number, points: Float32Array, emotion: object}[]} */
    this.rows = [];
    this.next = 0;
    this.frames = null; // the buffer of the session they come from
    this.last = -1; // the newest of that session's frames that is in
    this.base = 0;
  }

  /**
   * To be called with every picture: takes all frames that were reached since.
   * @param {number} shown with its fraction; -1 for none @param {number} elapsed seconds
   */
  reached(frames, shown, elapsed, emotion) {
    const newest = Math.floor(shown);
    const due = Math.max(this.next, Math.round(elapsed * FPS));
    if (frames !== this.frames) {
      this.frames = frames;
      this.last = newest < 0 ? -1 : newest - 1;
      this.base = null;
    }
    for (let k = this.last + 1; k <= newest; k++) {
      // Time may stand still for the session, or begin anew; the recording's goes on.
      if (this.base === null || due - (k - this.base) > APART_MOST) this.base = k - due;
      const points = frames.at(k);
      if (points) this.rows.push({ n: k - this.base, points, emotion });
      this.next = k - this.base + 1;
    }
    this.last = Math.max(this.last, newest);
  }

  /** @returns {Blob} */
  blob() {
    const parts = [];
    for (let i = 0; i < this.rows.length; i += LINES_A_PART) {
      parts.push(this.rows.slice(i, i + LINES_A_PART).map(line).join(""));
    }
    return new Blob(parts, { type: "application/jsonl" });
  }
}

function line({ n, points, emotion }) {
  return `${JSON.stringify({ n, t: n / FPS, points: pairs(points), emotion })}\n`;
}
