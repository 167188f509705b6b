// The found points over the photo, to be set right: dragged with a finger or a mouse, or moved
// with the arrow keys. A finger need not hit a point: the nearest one moves as the finger does.

import { BROWS, EYES, JAW, MOUTH_FIRST, OPEN_MOUTH, axesOf, lipGap } from "../face/landmarks.js";

const run = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const VIEWS = {
  face: { words: "Whole face", points: run(0, 67), margin: 0.42 },
  mouth: { words: "Mouth", points: run(MOUTH_FIRST, 67), margin: 0.14 },
  eyes: { words: "Eyes and brows", points: [...BROWS.flat(), ...EYES.flat()], margin: 0.14 },
  right: { words: "Left eye", points: EYES[0], margin: 0.12 },
  left: { words: "Right eye", points: EYES[1], margin: 0.12 },
};
const PARTS = [
  [JAW, "jaw"], [BROWS[0], "left brow"], [BROWS[1], "right brow"], [run(27, 35), "nose"],
  [EYES[0], "left eye"], [EYES[1], "right eye"], [run(48, 59), "lips"],
  [run(60, 67), "inner edge of the lips"],
];
const REACH_PX = 48; // of a finger
const STEP = 0.004; // of an arrow key, in distances between the eyes

const HTML = `
  <form method="dialog">
    <h2 id="adjust-title">Is this the face?</h2>
    <p id="adjust-how">Drag points that are off, or move one with the arrow keys.
      The edges of the lips and the eyelids matter most.</p>
    <div class="views" role="group" aria-label="Look closer"></div>
    <div class="photo" tabindex="-1"><canvas aria-hidden="true"></canvas><div class="points"></div></div>
    <p class="note" role="status"></p>
    <div class="deeds">
      <button type="button" class="secondary again">As found</button>
      <button type="submit" class="secondary" value="cancel" formnovalidate>Cancel</button>
      <button type="submit" class="primary use" value="use">Use this face</button>
    </div>
  </form>`;

/** The points (136,), set right from `found` or from those set before; null where cancelled. */
export async function adjustPoints(photo, found, points = found) {
  const dialog = document.createElement("dialog");
  dialog.className = "adjust";
  dialog.setAttribute("aria-labelledby", "adjust-title");
  dialog.setAttribute("aria-describedby", "adjust-how");
  dialog.innerHTML = HTML;
  document.body.append(dialog);
  const board = new Board(dialog, photo, found, points);
  dialog.showModal();
  board.zoomTo("face");
  dialog.querySelector(".use").focus();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  board.close();
  dialog.remove();
  return dialog.returnValue === "use" ? board.points : null;
}

class Board {
  constructor(dialog, photo, found, points) {
    this.dialog = dialog;
    this.photo = photo;
    this.points = points.slice();
    this.axes = axesOf(found);
    this.box = dialog.querySelector(".photo");
    this.canvas = dialog.querySelector("canvas");
    this.views = this.#addViews(dialog.querySelector(".views"));
    this.buttons = this.#addPoints(dialog.querySelector(".points"));
    dialog.querySelector(".again").addEventListener("click", () => {
      this.points = found.slice();
      this.#show();
    });
    this.#listen();
    this.watcher = new ResizeObserver(() => this.#show());
    this.watcher.observe(this.box);
  }

  close() {
    this.watcher.disconnect();
  }

  /** @param {keyof VIEWS} name */
  zoomTo(name) {
    this.view = name;
    const { points, margin } = VIEWS[name];
    const xs = points.map((i) => this.points[2 * i]);
    const ys = points.map((i) => this.points[2 * i + 1]);
    const around = margin * this.axes.size;
    this.shown = {
      left: Math.min(...xs) - around, right: Math.max(...xs) + around,
      top: Math.min(...ys) - around, bottom: Math.max(...ys) + around,
    };
    for (const [key, button] of Object.entries(this.views)) {
      button.setAttribute("aria-pressed", String(key === name));
    }
    this.buttons.forEach((button, i) => (button.hidden = !points.includes(i)));
    this.#show();
  }

  #addViews(group) {
    return Object.fromEntries(Object.entries(VIEWS).map(([name, { words }]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words;
      button.addEventListener("click", () => this.zoomTo(name));
      group.append(button);
      return [name, button];
    }));
  }

  #addPoints(group) {
    return run(0, 67).map((i) => {
      const [indices, name] = PARTS.find(([part]) => part.includes(i));
      const button = document.createElement("button");
      button.type = "button";
      button.className = "point";
      button.dataset.point = String(i);
      button.setAttribute("aria-label", `Point ${indices.indexOf(i) + 1} of the ${name}`);
      button.addEventListener("keydown", (event) => this.#key(event, i));
      group.append(button);
      return button;
    });
  }

  #key(event, i) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!way[event.key]) return;
    event.preventDefault();
    const step = STEP * this.axes.size * (event.shiftKey ? 5 : 1);
    this.#move(i, step * way[event.key][0], step * way[event.key][1]);
  }

  #move(i, dx, dy) {
    const { photo, points } = this;
    points[2 * i] = Math.max(0, Math.min(photo.width, points[2 * i] + dx));
    points[2 * i + 1] = Math.max(0, Math.min(photo.height, points[2 * i + 1] + dy));
    this.#show();
  }

  #listen() {
    const { box } = this;
    let held = null;
    box.addEventListener("pointerdown", (event) => {
      const i = this.#nearest(event);
      if (i === null || held) return;
      event.preventDefault();
      box.setPointerCapture(event.pointerId);
      held = { i, id: event.pointerId, x: event.clientX, y: event.clientY };
      this.buttons[i].focus({ preventScroll: true });
    });
    box.addEventListener("pointermove", (event) => {
      if (held?.id !== event.pointerId) return;
      const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
      this.#move(held.i, dx / this.scale, dy / this.scale);
      Object.assign(held, { x: event.clientX, y: event.clientY });
    });
    for (const over of ["pointerup", "pointercancel"]) {
      box.addEventListener(over, () => (held = null));
    }
  }

  #nearest({ clientX, clientY }) {
    const place = this.box.getBoundingClientRect();
    let [nearest, least] = [null, REACH_PX];
    for (const i of VIEWS[this.view].points) {
      const [x, y] = this.#onScreen(i);
      const far = Math.hypot(place.left + x - clientX, place.top + y - clientY);
      if (far < least) [nearest, least] = [i, far];
    }
    return nearest;
  }

  #onScreen(i) {
    return [
      (this.points[2 * i] - this.corner[0]) * this.scale,
      (this.points[2 * i + 1] - this.corner[1]) * this.scale,
    ];
  }

  #show() {
    if (!this.shown) return;
    const { box, canvas, photo, shown } = this;
    const [width, height] = [box.clientWidth, box.clientHeight];
    if (width === 0 || height === 0) return;
    this.scale = Math.min(width / (shown.right - shown.left), height / (shown.bottom - shown.top));
    this.corner = [
      (shown.left + shown.right) / 2 - width / this.scale / 2,
      (shown.top + shown.bottom) / 2 - height / this.scale / 2,
    ];
    const density = Math.min(2, globalThis.devicePixelRatio || 1);
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    const g = canvas.getContext("2d");
    g.scale(density * this.scale, density * this.scale);
    g.translate(-this.corner[0], -this.corner[1]);
    g.imageSmoothingQuality = "high";
    g.drawImage(photo, 0, 0);
    this.buttons.forEach((button, i) => {
      const [x, y] = this.#onScreen(i);
      button.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    });
    const open = lipGap(this.points) > OPEN_MOUTH * axesOf(this.points).size;
    const text = open
      ? "The mouth is open here. It will be shut while nothing is said."
      : "";
    const note = this.dialog.querySelector(".note");
    if (note.textContent !== text) note.textContent = text;
  }
}
