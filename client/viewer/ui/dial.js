// The emotion dial: a round pad on which the distance from the centre is the intensity and the
// direction the emotion, a button for each emotion, and a slider for the intensity. It also shows
// mixtures that the pad cannot reach, as the sum of their directions.

/** Clockwise from the top; neighbours blend into each other. */
const RING = ["surprised", "happy", "contempt", "sad", "disgusted", "angry", "fear"];
const TURN = 2 * Math.PI;
const STEP = 0.05;
const LEAP = 0.2;
const REACH = 0.42; // of the pad's width, from the centre to full intensity
const CENTRE = 0.08; // of that: so near the middle is neutral

const thousandths = (x) => Math.round(x * 1000) / 1000;

/** @returns {Record<string, number>} shares of the two emotions at this angle, summing to 1 */
function sharesAt(angle) {
  const place = ((((angle / TURN) % 1) + 1) % 1) * RING.length;
  const first = Math.floor(place) % RING.length;
  const share = place - Math.floor(place);
  return { [RING[first]]: 1 - share, [RING[(first + 1) % RING.length]]: share };
}

/** Shares, which sum to 1, at an intensity 0..1, in thousandths that sum to it and not more. */
function weightsOf(shares, intensity) {
  const amount = thousandths(intensity);
  const [first, ...others] = Object.entries(shares);
  const rest = others.map(([name, share]) => [name, thousandths(share * amount)]);
  const left = rest.reduce((sum, [, weight]) => sum - weight, amount);
  const all = [[first[0], thousandths(Math.max(0, left))], ...rest];
  return Object.fromEntries(all.filter(([, weight]) => weight > 0));
}

/** The weights at an angle clockwise from the top, radians. */
export const weightsAt = (angle, intensity) => weightsOf(sharesAt(angle), intensity);

/** Where shares lie on the pad: the sum of their directions, x to the right, y down. */
function placeOf(shares) {
  let [x, y] = [0, 0];
  for (const [name, share] of Object.entries(shares)) {
    const angle = (RING.indexOf(name) / RING.length) * TURN;
    x += share * Math.sin(angle);
    y -= share * Math.cos(angle);
  }
  return { x, y };
}

export class Dial {
  /** `parts`: pad, knob, buttons, slider, output; `changed` is called with new weights. */
  constructor(parts, changed) {
    Object.assign(this, parts);
    this.changed = changed;
    this.angle = TURN / RING.length; // happy
    this.mixture = null; // shares that are not those of the angle
    this.intensity = 0;
    this.chosen = 0.8; // the intensity a button gives when the dial rests at the centre
    this.#listen();
    this.#show();
  }

  get weights() {
    return weightsOf(this.mixture ?? sharesAt(this.angle), this.intensity);
  }

  /** @param {number} angle @param {number} intensity */
  set(angle, intensity) {
    this.angle = ((angle % TURN) + TURN) % TURN;
    this.mixture = null;
    this.#strengthen(intensity);
  }

  /** @param {import("../net/protocol.js").Weights} weights any mixture, summing to at most 1 */
  setWeights(weights) {
    const active = RING.filter((name) => weights[name] > 0).map((name) => [name, weights[name]]);
    const sum = active.reduce((total, [, weight]) => total + weight, 0);
    if (sum > 0) {
      this.mixture = Object.fromEntries(active.map(([name, weight]) => [name, weight / sum]));
      const { x, y } = placeOf(this.mixture);
      if (x !== 0 || y !== 0) this.angle = (Math.atan2(x, -y) + TURN) % TURN;
    }
    this.#strengthen(sum);
  }

  #strengthen(intensity) {
    this.intensity = Math.max(0, Math.min(1, intensity));
    if (this.intensity > 0) this.chosen = this.intensity;
    this.#show();
    this.changed(this.weights);
  }

  #listen() {
    const { pad, slider } = this;
    const drag = (event) => {
      const box = pad.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width - 0.5;
      const y = (event.clientY - box.top) / box.height - 0.5;
      const reach = Math.hypot(x, y) / REACH;
      if (reach < CENTRE) this.#strengthen(0);
      else this.set(Math.atan2(x, -y), reach);
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      drag(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) drag(event);
    });
    pad.addEventListener("dblclick", () => this.#strengthen(0));
    pad.addEventListener("keydown", (event) => this.#key(event));
    slider.addEventListener("input", () => this.#strengthen(slider.valueAsNumber / 100));
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.#choose(button.dataset.emotion));
    }
  }

  #choose(emotion) {
    if (emotion === "neutral") this.#strengthen(0);
    else this.set((RING.indexOf(emotion) / RING.length) * TURN, this.intensity || this.chosen);
  }

  #key(event) {
    const sector = TURN / RING.length;
    const nearest = Math.round(this.angle / sector);
    const turned = (by) => () => this.set((nearest + by) * sector, this.intensity);
    const stronger = (by) => () => this.#strengthen(this.intensity + by);
    const act = {
      ArrowUp: stronger(STEP),
      ArrowDown: stronger(-STEP),
      PageUp: stronger(LEAP),
      PageDown: stronger(-LEAP),
      ArrowRight: turned(1),
      ArrowLeft: turned(-1),
      Home: () => this.#strengthen(0),
      End: () => this.#strengthen(1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #show() {
    const { angle, intensity, mixture } = this;
    const { x, y } = mixture ? placeOf(mixture) : { x: Math.sin(angle), y: -Math.cos(angle) };
    this.knob.style.left = `${50 + 100 * REACH * intensity * x}%`;
    this.knob.style.top = `${50 + 100 * REACH * intensity * y}%`;
    const percent = Math.round(intensity * 100);
    this.slider.value = String(percent);
    const { weights } = this;
    const sorted = Object.entries(weights).sort(([, a], [, b]) => b - a);
    const strongest = sorted[0]?.[0] ?? "neutral";
    for (const button of this.buttons) {
      const { emotion } = button.dataset;
      button.setAttribute("aria-pressed", String(emotion === strongest));
      button.style.setProperty("--share", String(weights[emotion] ?? 0));
    }
    const words = sorted.map(([name, w]) => `${name} ${Math.round(w * 100)} %`).join(", ");
    this.output.textContent = words || "neutral";
    this.pad.setAttribute("aria-valuenow", String(percent));
    this.pad.setAttribute("aria-valuetext", words || "neutral");
  }
}
