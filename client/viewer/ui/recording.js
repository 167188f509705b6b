// A recording of what is seen and heard: a video of the face with its sound, and the frames.

import { FramesFile } from "./frames-file.js";
import { RecordedSound } from "../audio/recorded-sound.js";
import { withDuration } from "./webm-duration.js";

const FPS = 30;
const SIDE_MOST = 540; // of the video, a square: more is much work without a graphics card
const VIDEO_BITS = 1_500_000; // a second
const SOUND_BITS = 128_000;
const PART_MS = 1000;
const EVERY_MS = 1000 / (FPS + 2); // a little more often than pictures are taken
const KINDS = [
  ["video/webm;codecs=vp8,opus", "webm"],
  ["video/webm", "webm"],
  ["video/mp4", "mp4"],
];

/** The first kind of video that this browser writes, or null. */
function videoKind() {
  const writes = (type) => globalThis.MediaRecorder?.isTypeSupported(type);
  return KINDS.find(([type]) => writes(type)) ?? null;
}

/**
 * @typedef {{seconds: number, cut: boolean, video: Blob | null, ending: string, frames: Blob,
 *   count: number}} Recorded `cut`: it became too long; `frames`: JSON Lines, `count` of them
 */

export class Recording {
  /** @param {(recorded: Recorded) => void} done */
  constructor(controller, done) {
    this.controller = controller;
    this.done = done;
    this.mostSeconds = 600;
    this.mostBytes = 250e6;
    this.on = false;
  }

  /** @returns {number} since the beginning */
  get seconds() {
    return this.on ? (performance.now() - this.began) / 1000 : 0;
  }

  /** Whether the next picture is one for the video. */
  get due() {
    return this.on && performance.now() - this.paintedAt >= EVERY_MS;
  }

  /** @param {object} drawer of the face @param {string} background a colour */
  start(drawer, background) {
    this.on = true;
    this.paintedAt = -Infinity;
    this.frames = new FramesFile();
    this.parts = [];
    this.bytes = 0;
    this.recorder = this.sound = null;
    this.kind = videoKind();
    if (this.kind) this.#film(drawer, background);
    this.began = performance.now();
    this.recorder?.start(PART_MS);
  }

  #film(drawer, background) {
    this.background = background;
    this.picture = document.createElement("canvas");
    const side = Math.min(SIDE_MOST, Math.max(drawer.picture.width, drawer.picture.height));
    this.picture.width = this.picture.height = Math.max(2, 2 * Math.floor(side / 2));
    this.g = this.picture.getContext("2d", { alpha: false });
    this.#paint(drawer);
    this.sound = new RecordedSound();
    const [picture] = this.picture.captureStream(FPS).getVideoTracks();
    this.recorder = new MediaRecorder(new MediaStream([picture, this.sound.track]), {
      mimeType: this.kind[0],
      videoBitsPerSecond: VIDEO_BITS,
      audioBitsPerSecond: SOUND_BITS,
    });
    this.recorder.ondataavailable = ({ data }) => this.#part(data);
    this.recorder.onerror = () => this.stop();
  }

  /** To be called with every picture; `drawer`: null where none was due; `latency`: seconds. */
  tick(drawer, shown, latency) {
    if (!this.on) return;
    const { frames, weights } = this.controller;
    this.frames.reached(frames, shown, this.seconds, weights);
    if (this.kind) {
      this.sound.follow(this.controller, latency);
      if (drawer) this.#paint(drawer);
    }
    if (this.seconds >= this.mostSeconds) this.stop(true);
  }

  /** @param {boolean} cut it became too long */
  stop(cut = false) {
    if (!this.on) return;
    const { seconds } = this;
    this.on = false;
    const done = async () => {
      this.sound?.close();
      const [type, ending] = this.kind ?? ["", ""];
      const film = this.parts.length > 0 ? new Blob(this.parts, { type }) : null;
      const video = film && (await withDuration(film, seconds));
      const { frames } = this;
      const count = frames.rows.length;
      this.parts = [];
      this.frames = this.sound = null;
      this.done({ seconds, cut, video, ending, frames: frames.blob(), count });
    };
    if (!this.recorder || this.recorder.state === "inactive") return done();
    this.recorder.onstop = done;
    this.recorder.stop();
    this.recorder.stream.getTracks().forEach((track) => track.stop());
  }

  // Parts come in the background too, where no picture is drawn.
  #part(data) {
    if (data.size > 0) this.parts.push(data);
    this.bytes += data.size;
    if (this.bytes > this.mostBytes || this.seconds > this.mostSeconds) this.stop(true);
  }

  /** The picture on the drawer's canvas, whole, in the middle of a square. */
  #paint({ canvas, picture: { x, y, width, height } }) {
    const { g, picture } = this;
    this.paintedAt = performance.now();
    const scale = picture.width / Math.max(width, height);
    const [w, h] = [width * scale, height * scale];
    g.fillStyle = this.background;
    g.fillRect(0, 0, picture.width, picture.height);
    const [left, top] = [(picture.width - w) / 2, (picture.height - h) / 2];
    g.drawImage(canvas, x, y, width, height, left, top, w, h);
  }
}
