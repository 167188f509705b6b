// The controls of the voice: the microphone, which one, and sound files.

import { MicrophoneError, microphones } from "./microphone.js";

const MICROPHONE_LOST = ["gone", "no-microphone"]; // states

export class InputControls {
  /**
   * `parts`: microphone, words, device, file, stopFile; `page`: {state(), setState(state),
   * dropped?(file)}, the last of which tells whether someone else took the file.
   */
  constructor(parts, controller, page) {
    Object.assign(this, parts);
    this.controller = controller;
    this.page = page;
    this.#listenToMicrophone();
    this.#listenToFiles();
  }

  get talking() {
    return this.controller.microphone !== null || this.page.state() === "asking";
  }

  show() {
    const on = this.talking;
    this.microphone.setAttribute("aria-pressed", String(on));
    this.words.textContent = on ? "Stop" : "Start";
    const state = this.page.state();
    this.stopFile.hidden =
      state === "done" || (this.controller.playback === null && state !== "loading");
    if (MICROPHONE_LOST.includes(state)) this.device.value = ""; // and not that one again
  }

  startAgain() {
    if (!this.talking) return;
    this.controller.stopMicrophone();
    this.#start();
  }

  async #start() {
    try {
      await this.controller.startMicrophone(this.device.value);
      await this.#list();
    } catch (error) {
      if (!(error instanceof MicrophoneError)) throw error;
      this.controller.stopMicrophone();
      this.page.setState(error.code);
    }
    this.show();
  }

  async #list() {
    const picker = this.device;
    const chosen = this.controller.microphone?.deviceId ?? picker.value;
    const found = await microphones();
    if (found.length === 0) return;
    const named = found.map(({ deviceId, label }) => new Option(label, deviceId));
    picker.replaceChildren(new Option("The usual one", ""), ...named);
    picker.value = found.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
    picker.disabled = false;
  }

  #listenToMicrophone() {
    this.microphone.addEventListener("click", () => {
      if (this.talking) this.controller.stopMicrophone();
      else this.#start();
      this.show();
    });
    this.device.addEventListener("change", () => this.startAgain());
    navigator.mediaDevices?.addEventListener("devicechange", () => {
      if (this.controller.microphone) this.#list();
    });
  }

  #listenToFiles() {
    this.file.addEventListener("change", () => {
      const [file] = this.file.files;
      if (file) this.controller.play(file);
      this.file.value = ""; // so that the same file can be chosen again
    });
    this.stopFile.addEventListener("click", () => this.controller.stopFile());
    // What counts as a touch of the page: a mouse that goes down, a finger that goes up, a key.
    for (const touch of ["pointerdown", "pointerup", "keydown"]) {
      addEventListener(touch, () => {
        if (this.page.state() === "blocked") this.controller.playback?.context.resume();
      });
    }

    let dragged = 0;
    const dragging = (by) => (event) => {
      event.preventDefault();
      dragged = by === 0 ? 0 : Math.max(0, dragged + by);
      document.body.classList.toggle("dropping", dragged > 0);
    };
    addEventListener("dragenter", dragging(1));
    addEventListener("dragleave", dragging(-1));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      dragging(0)(event);
      const [file] = event.dataTransfer.files;
      if (file && !this.page.dropped?.(file)) this.controller.play(file);
    });
  }
}
