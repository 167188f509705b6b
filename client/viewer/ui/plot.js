// Two lines over the last seconds: how loud the voice was and how far the mouth stood open. The
// voice is moved by the delay of the face, so that what belongs together lies together.

const SECONDS = 6;
const EVERY_S = 1 / 31; // how often it is drawn, and the mouth looked at
const CALM_EVERY_S = 0.5; // for those who asked for less motion
const KEPT = 512;
const GAP_S = 0.25; // longer than that without a value: the line is broken
const OPENING_MOST = 0.2; // of the distance between the eyes: the top of the plot

/** Values by time, the newest few of them. */
class Track {
  constructor() {
    this.times = new Float64Array(KEPT).fill(-Infinity);
    this.values = new Float32Array(KEPT);
    this.count = 0;
  }

  add(time, value) {
    this.times[this.count % KEPT] = time;
    this.values[this.count % KEPT] = value;
    this.count += 1;
  }

  get newest() {
    return this.count > 0 ? this.times[(this.count - 1) % KEPT] : -Infinity;
  }

  /** Calls `visit(time, value)` for those between two times, from the oldest on. */
  between(first, last, visit) {
    for (let i = Math.max(0, this.count - KEPT); i < this.count; i++) {
      const time = this.times[i % KEPT];
      if (time >= first && time <= last) visit(time, this.values[i % KEPT]);
    }
  }
}

export class Plot {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.g = canvas.getContext("2d");
    this.voice = new Track();
    this.mouth = new Track();
    this.drawnAt = -Infinity;
    this.blank = false;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.#fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#fit());
    this.#fit();
  }

  /** @param {number} time when the face shows that sound, seconds @param {number} level 0..1 */
  addVoice(time, level) {
    if (time > this.voice.newest) this.voice.add(time, level);
  }

  /** @param {number} time of the picture @param {number} opening of the eyes' distance */
  addMouth(time, opening) {
    if (time - this.mouth.newest < EVERY_S) return;
    this.mouth.add(time, Math.min(1, opening / OPENING_MOST));
  }

  /** @param {number} now seconds */
  draw(now) {
    if (now - this.drawnAt < (this.calm.matches ? CALM_EVERY_S : EVERY_S)) return;
    const newest = Math.max(this.voice.newest, this.mouth.newest);
    const blank = newest < now - SECONDS;
    if (blank && this.blank) return;
    this.blank = blank;
    this.drawnAt = now;
    const { g, canvas, colours } = this;
    const { width, height } = canvas;
    g.clearRect(0, 0, width, height);
    g.fillStyle = colours.grid;
    for (let s = 1; s < SECONDS; s++) g.fillRect((s / SECONDS) * width, 0, this.density, height);
    g.fillRect(0, height - this.density, width, this.density);
    this.#area(this.voice, now);
    this.#line(this.mouth, now);
  }

  #place(now) {
    const { width, height } = this.canvas;
    const inner = height - 4 * this.density;
    return (time, value) => [
      width * (1 - (now - time) / SECONDS), height - 2 * this.density - inner * value,
    ];
  }

  #area(track, now) {
    const { g, canvas, colours } = this;
    const place = this.#place(now);
    const floor = canvas.height - this.density;
    let [before, x0] = [-Infinity, 0];
    g.beginPath();
    track.between(now - SECONDS, now, (time, value) => {
      const [x, y] = place(time, value);
      if (time - before > GAP_S) {
        if (before > -Infinity) g.lineTo(x0, floor);
        g.moveTo(x, floor);
      }
      g.lineTo(x, y);
      [before, x0] = [time, x];
    });
    if (before > -Infinity) g.lineTo(x0, floor);
    g.fillStyle = colours.voice;
    g.fill();
  }

  #line(track, now) {
    const { g, colours } = this;
    const place = this.#place(now);
    let before = -Infinity;
    g.beginPath();
    track.between(now - SECONDS, now, (time, value) => {
      const [x, y] = place(time, value);
      if (time - before > GAP_S) g.moveTo(x, y);
      else g.lineTo(x, y);
      before = time;
    });
    g.strokeStyle = colours.mouth;
    g.lineWidth = 2 * this.density;
    g.lineJoin = "round";
    g.stroke();
  }

  #fit() {
    const { canvas } = this;
    this.density = Math.min(2, globalThis.devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * this.density));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * this.density));
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = {
      voice: colour("--voice"), mouth: colour("--accent"), grid: colour("--edge"),
    };
    this.blank = false;
    this.drawnAt = -Infinity;
  }
}
