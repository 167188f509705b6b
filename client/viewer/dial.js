// The emotion dial: a round pad on which the distance from the centre is the intensity and the
// direction the emotion, a button for each emotion, and a slider for the intensity.

/** Clockwise from the top; neighbours blend into each other. */
export const RING = ["surprised", "happy", "contempt", "sad", "disgusted", "angry", "fear"];
const TURN = 2 * Math.PI;
const STEP = 0.05;

/**
 * @param {number} angle clockwise from the top, radians @param {number} intensity 0..1
 * @returns {import("./protocol.js").Weights}
 */
export function weightsAt(angle, intensity) {
  const amount = Math.round(intensity * 1000) / 1000;
  if (amount === 0) return {};
  const place = ((((angle / TURN) % 1) + 1) % 1) * RING.length;
  const first = Math.floor(place) % RING.length;
  const share = Math.round((place - Math.floor(place)) * amount * 1000) / 1000;
  const weights = { [RING[first]]: amount - share };
  if (share > 0) weights[RING[(first + 1) % RING.length]] = share;
  return Object.fromEntries(Object.entries(weights).filter(([, weight]) => weight > 0));
}

export class Dial {
  /**
   * @param {{pad: HTMLElement, knob: HTMLElement, buttons: HTMLButtonElement[],
   *   slider: HTMLInputElement, said: HTMLElement}} parts
   * @param {(weights: import("./protocol.js").Weights) => void} changed
   */
  constructor(parts, changed) {
    Object.assign(this, parts);
    this.changed = changed;
    this.angle = TURN / RING.length; // happy
    this.intensity = 0;
    this.chosen = 0.8; // the intensity a button gives when the dial rests at the centre
    this.#listen();
    this.#show();
  }

  get weights() {
    return weightsAt(this.angle, this.intensity);
  }

  /** @param {number} angle @param {number} intensity */
  set(angle, intensity) {
    this.angle = ((angle % TURN) + TURN) % TURN;
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
      const reach = Math.hypot(x, y) / 0.42;
      this.set(reach < 0.08 ? this.angle : Math.atan2(x, -y), reach < 0.08 ? 0 : reach);
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      drag(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) drag(event);
    });
    pad.addEventListener("dblclick", () => this.set(this.angle, 0));
    pad.addEventListener("keydown", (event) => this.#key(event));
    slider.addEventListener("input", () => this.set(this.angle, slider.valueAsNumber / 100));
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.#choose(button.dataset.emotion));
    }
  }

  #choose(emotion) {
    if (emotion === "neutral") this.set(this.angle, 0);
    else this.set((RING.indexOf(emotion) / RING.length) * TURN, this.intensity || this.chosen);
  }

  #key(event) {
    const sector = TURN / RING.length;
    const nearest = Math.round(this.angle / sector);
    const turned = (by) => () => this.set((nearest + by) * sector, this.intensity);
    const act = {
      ArrowUp: () => this.set(this.angle, this.intensity + STEP),
      ArrowDown: () => this.set(this.angle, this.intensity - STEP),
      ArrowRight: turned(1),
      ArrowLeft: turned(-1),
      Home: () => this.set(this.angle, 0),
      End: () => this.set(this.angle, 1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #show() {
    const { angle, intensity } = this;
    const reach = 42 * intensity;
    this.knob.style.left = `${50 + reach * Math.sin(angle)}%`;
    this.knob.style.top = `${50 - reach * Math.cos(angle)}%`;
    const percent = Math.round(intensity * 100);
    this.slider.value = String(percent);
    const weights = Object.entries(this.weights).sort(([, a], [, b]) => b - a);
    const strongest = weights[0]?.[0] ?? "neutral";
    for (const button of this.buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.emotion === strongest));
    }
    const words = weights.map(([name, w]) => `${name} ${Math.round(w * 100)} %`).join(", ");
    this.said.textContent = words || "neutral";
    this.pad.setAttribute("aria-valuenow", String(percent));
    this.pad.setAttribute("aria-valuetext", words || "neutral");
  }
}
