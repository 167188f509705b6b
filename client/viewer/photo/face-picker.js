// Whose face speaks: the drawn one, a portrait that comes with the page, or a photo of one's own.
// A photo and its points stay in this page's memory; only the points are sent, as the stream's
// identity.

import { adjustPoints } from "./adjust-points.js";
import { PhotoError, isPicture, readPhoto } from "./photo-file.js";
import { INNER_PAIRS, OPEN_MOUTH, axesOf, lipGap, mouthShut, pairs } from "../face/landmarks.js";
import { PhotoFace } from "./photo-face.js";
import { meshTable } from "./face-mesh.js";

const PORTRAITS = "portraits/";
const ACCEPTED = "image/jpeg,image/png,image/webp,.jpg,.jpeg,.png,.webp";

/** A photo with its points (136,) as a look. Throws PhotoError where there is no WebGL. */
export function photoLook(table, name, photo, seen) {
  const rest = restOf(seen);
  let drawer;
  try {
    drawer = new PhotoFace(table, photo, seen);
  } catch {
    throw new PhotoError("photo-no-webgl");
  }
  return { name, drawer, rest, identity: { points: pairs(rest) } };
}

/** The face at rest: its lips shut, for that is what speech starts from. */
function restOf(seen) {
  if (lipGap(seen) > OPEN_MOUTH * axesOf(seen).size) return mouthShut(seen);
  const rest = Float32Array.from(seen);
  for (const [top, low] of INNER_PAIRS) {
    for (let k = 0; k < 2; k++) {
      const mean = (seen[2 * top + k] + seen[2 * low + k]) / 2;
      rest[2 * top + k] = rest[2 * low + k] = mean;
    }
  }
  return rest;
}

export class FacePicker {
  /**
   * `drawn`: the look of the drawn face; `setLook(look)` puts its canvas on the page;
   * `showNotice(state, details)` shows the text of a state.
   */
  constructor({ section, drawn, setLook, showNotice }) {
    Object.assign(this, { section, setLook, showNotice });
    this.entries = [];
    this.request = null; // the newest: an older one that is ready later is ignored
    this.#build();
    this.#add({ name: "drawn", label: "Drawn", picture: "favicon.svg", look: drawn });
    this.#mark(this.entries[0]);
    this.ready = this.#addPortraits();
  }

  /** A photo that was chosen or dropped. @param {File} file */
  async photo(file) {
    const request = (this.request = Symbol("photo"));
    document.querySelector("dialog.adjust")?.close("cancel"); // the newest photo is meant
    this.showNotice("photo-looking", { file: file.name });
    await new Promise((go) => setTimeout(go, 30)); // so that this is seen
    try {
      const picture = await readPhoto(file);
      const { findFace } = await import("./detector.js");
      const found = await findFace(picture);
      this.table = await meshTable();
      if (this.request !== request) return;
      this.showNotice("photo-check");
      await this.#adjusted(picture, found, found);
    } catch (error) {
      if (this.request === request) this.#failed(error);
    }
  }

  /** The drawn face or a portrait, by its name; nothing happens where there is none such. */
  async choose(name) {
    await this.ready;
    const entry = this.entries.find((entry) => entry.name === name);
    if (entry && this.request === null) await this.#choose(entry);
  }

  /** @returns {string | null} the portrait that is shown: what a link can bring back */
  get portrait() {
    const { name } = this.chosen;
    return name === "drawn" || name === "photo" ? null : name;
  }

  // ---- the section

  #build() {
    const { section } = this;
    section.innerHTML = `
      <h2 id="look-title">Face</h2>
      <div class="faces" role="group" aria-labelledby="look-title"></div>
      <div class="files">
        <label class="secondary" for="photo">Your photo…</label>
        <input type="file" id="photo" accept="${ACCEPTED}">
        <button id="adjust-photo" class="secondary" type="button" hidden>Set points</button>
        <button id="save-points" class="secondary" type="button" hidden>Save points</button>
        <span class="hint">or drop one anywhere; it never leaves this browser</span>
      </div>`;
    this.faces = section.querySelector(".faces");
    section.querySelector("#photo").addEventListener("change", ({ target }) => {
      const [file] = target.files;
      if (file) this.photo(file);
      target.value = "";
    });
    section.querySelector("#adjust-photo").addEventListener("click", () => this.#adjustAgain());
    section.querySelector("#save-points").addEventListener("click", () => this.#savePoints());
  }

  #add(entry) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.look = entry.name;
    button.setAttribute("aria-pressed", "false");
    const image = entry.picture instanceof HTMLCanvasElement ? entry.picture : new Image();
    if (image instanceof Image) Object.assign(image, { src: entry.picture, alt: "" });
    button.append(image, entry.label);
    button.addEventListener("click", () => this.#choose(entry));
    entry.button = button;
    this.faces.append(button);
    this.entries.push(entry);
    return entry;
  }

  async #addPortraits() {
    const list = await fetch(`${PORTRAITS}portraits.json`)
      .then((answer) => (answer.ok ? answer.json() : []))
      .catch(() => []);
    for (const { name, label, image, points } of list) {
      this.#add({ name, label, picture: PORTRAITS + image, points: points.flat() });
    }
  }

  // ---- choosing

  async #choose(entry) {
    const request = (this.request = entry);
    if (!entry.look) {
      try {
        const photo = await readPhoto(await (await fetch(entry.picture)).blob());
        this.table = await meshTable();
        if (this.request !== request) return;
        entry.look = photoLook(this.table, entry.name, photo, Float32Array.from(entry.points));
      } catch (error) {
        return this.#failed(error instanceof PhotoError ? error : new PhotoError("photo-lost"));
      }
    }
    this.#mark(entry);
    this.setLook(entry.look);
  }

  #mark(entry) {
    this.chosen = entry;
    for (const { button } of this.entries) {
      button.setAttribute("aria-pressed", String(button === entry.button));
    }
    const own = Boolean(entry.found);
    this.section.querySelector("#adjust-photo").hidden = !own;
    this.section.querySelector("#save-points").hidden = !own;
  }

  // One photo is kept: the newest.
  async #adjusted(picture, found, points) {
    const { request } = this;
    const set = await adjustPoints(picture, found, points);
    if (set === null) {
      if (this.request === request) this.showNotice(null); // else a newer photo is told of
      return;
    }
    const look = photoLook(this.table, "photo", picture, set);
    const before = this.entries.find(({ name }) => name === "photo");
    const entry = this.#add({
      name: "photo", label: "Photo", picture: thumbnail(picture, set), look, found, points: set,
    });
    entry.photo = picture;
    this.#mark(entry);
    this.setLook(look);
    if (before) this.#forget(before);
    const open = lipGap(set) > OPEN_MOUTH * axesOf(set).size;
    this.showNotice(open ? "photo-open-mouth" : "photo-ready");
  }

  #forget(entry) {
    this.entries.splice(this.entries.indexOf(entry), 1);
    entry.button.remove();
    entry.look.drawer.close();
  }

  async #adjustAgain() {
    const { photo, found, points } = this.chosen;
    const { request } = this;
    try {
      await this.#adjusted(photo, found, points);
    } catch (error) {
      if (this.request === request) this.#failed(error);
    }
  }

  // In pixels of the file, upright, as other programs see it.
  #savePoints() {
    const { photo, points, look } = this.chosen;
    const inFile = (flat) => pairs(flat.map((v) => v * photo.reduced));
    const json = JSON.stringify({
      points: inFile(look.rest), photo: inFile(points), ...photo.original,
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
    link.download = "face.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  #failed(error) {
    if (!(error instanceof PhotoError)) {
      this.showNotice("photo-failed");
      throw error;
    }
    this.showNotice(error.code, error.details);
  }
}

export { isPicture };

/** The face of a photo, small. */
function thumbnail(photo, points) {
  const { size, at } = axesOf(points);
  const [x, y] = at(0, 0.4);
  const side = 2.6 * size;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 96;
  canvas.setAttribute("aria-hidden", "true");
  canvas.getContext("2d").drawImage(photo, x - side / 2, y - side / 2, side, side, 0, 0, 96, 96);
  return canvas;
}
