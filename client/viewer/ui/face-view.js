// What is on the screen: one look, drawn once for each picture of the screen.
//
// A look is `{name, drawer, rest, identity}`. `drawer` has `canvas`, `resize()`, `draw(points)`,
// `dots` and, once resized, `picture`: the part of its canvas that a recording keeps; `rest` is its
// face at rest, as Float32Array(136) in the coordinates in which it draws; `identity` is what the
// server is told of it, null for its own neutral face.

import { WIDTH } from "../net/protocol.js";
import { lipGap } from "../face/landmarks.js";

const SMOOTH = 0.05;
const TIMES_KEPT = 600; // pictures, ten seconds of them
const OUTER_EYES = [36, 45];

/** What is counted of the drawing, for the status panel, tests and the curious. */
export const newStats = () => ({
  drawn: 0, // pictures
  scriptMs: 0, // to draw one, smoothed
  frames: 0, // times that the screen asked for a picture
  times: new Float32Array(TIMES_KEPT), // all script of each, in ms; that of frame i at i % 600
  latencyMs: null, // from a frame's being spoken to its drawing, smoothed
  delayMs: null, // what playout aims at
  received: 0, // frames, of all sessions
  dropped: 0, // frames, of this session
  rate: 0, // of its audio
});

export class FaceView {
  /** @param {HTMLElement} place where the canvases lie, one above the other */
  constructor(place, stats) {
    this.place = place;
    this.stats = stats;
    this.pose = new Float32Array(WIDTH);
    this.drawn = { n: -1, points: new Float32Array(WIDTH) };
    this.stale = true; // must be drawn even if the pose has not changed
    this.look = null;
    new ResizeObserver(() => this.#fit()).observe(place);
  }

  /** Shows this look and no other; its canvas is put in place if it is not there. */
  setLook(look) {
    const { canvas } = look.drawer;
    look.drawer.dots = this.look?.drawer.dots ?? look.drawer.dots;
    this.look = look;
    if (canvas.parentNode !== this.place) this.place.append(canvas);
    for (const other of this.place.children) other.hidden = other !== canvas;
    this.place.dataset.look = look.name;
    this.pose.set(look.rest);
    this.#fit();
  }

  set dots(on) {
    this.look.drawer.dots = on;
    this.stale = true;
  }

  get dots() {
    return this.look.drawer.dots;
  }

  /** Draws the pose that `write` puts into an array, if it has changed or `always`. */
  draw(write, always) {
    const began = performance.now();
    const shown = write(this.pose);
    if (always || this.stale || this.#changed()) {
      this.look.drawer.draw(this.pose);
      this.stale = false;
      this.drawn.points.set(this.pose);
      this.stats.drawn += 1;
      this.stats.scriptMs += SMOOTH * (performance.now() - began - this.stats.scriptMs);
    }
    this.drawn.n = shown.n;
    return shown;
  }

  /** How far the mouth stands open, as a share of the distance between the outer eye corners. */
  opening() {
    const [left, right] = OUTER_EYES;
    const { rest } = this.look;
    const eyes = Math.hypot(
      rest[2 * right] - rest[2 * left], rest[2 * right + 1] - rest[2 * left + 1],
    );
    return Math.max(0, lipGap(this.pose)) / eyes;
  }

  /** @param {number} ms that all script of this picture took */
  recordTime(ms) {
    this.stats.times[this.stats.frames % TIMES_KEPT] = ms;
    this.stats.frames += 1;
  }

  /** @param {number | null} latency seconds */
  updateStats(latency, controller) {
    const { stats } = this;
    const ms = latency === null ? null : latency * 1000;
    const before = stats.latencyMs ?? ms;
    stats.latencyMs = ms === null ? null : before + SMOOTH * (ms - before);
    stats.delayMs = controller.live ? controller.live.delay.seconds * 1000 : null;
    stats.received = controller.received;
    stats.dropped = controller.dropped;
    stats.rate = controller.session?.rate ?? 0;
  }

  #fit() {
    this.look?.drawer.resize();
    this.stale = true;
  }

  #changed() {
    const { pose, drawn } = this;
    for (let i = 0; i < WIDTH; i++) if (Math.abs(pose[i] - drawn.points[i]) > 0.01) return true;
    return false;
  }
}
