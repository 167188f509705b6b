// What the page says about itself, in plain words.

import { STATUS_TEXT, delayText, lossText } from "./status-text.js";

const ROUND_MS = 5;
const NUMBERS_EVERY_S = 0.25; // more often nobody reads
const NOTICE_S = 10;

export class StatusPanel {
  /**
   * `parts`: status, meter (which covers what is not reached), and in one row each delay and
   * latency, loss and dropped: words and numbers.
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.level = 0;
    this.text = "";
    this.countedAt = -Infinity;
    this.heldUntil = 0; // by a notice
  }

  /** @param {string} state @param {Record<string, string | number>} details */
  show(state, details = {}) {
    this.current = [state, details];
    if (STATUS_TEXT[state]?.[0] === "bad") this.heldUntil = 0;
    if (performance.now() >= this.heldUntil) this.#write(state, details);
  }

  /**
   * Says something else for a while, whatever goes on; bad news is not held back.
   * @param {string | null} state null: what goes on is told again
   */
  showNotice(state, details = {}) {
    const seconds = STATUS_TEXT[state]?.[0] === "bad" ? 3 * NOTICE_S : NOTICE_S;
    clearTimeout(this.timer);
    const showCurrent = () => {
      this.heldUntil = 0;
      if (this.current) this.show(...this.current);
    };
    if (state === null) return showCurrent();
    this.heldUntil = performance.now() + 1000 * seconds;
    this.#write(state, details);
    this.timer = setTimeout(showCurrent, 1000 * seconds);
  }

  #write(state, details) {
    const [mood, words] = STATUS_TEXT[state] ?? STATUS_TEXT.failed;
    const quoted = (name) => String(details[name] ?? state).replace(/\.$/, "");
    const text = words.replace(/\{(\w+)\}/g, (_, name) => quoted(name));
    if (text !== this.text) this.status.textContent = text; // textContent: it may quote the server
    this.text = text;
    this.status.dataset.mood = mood;
  }

  showNumbers(stats, controller, now) {
    if (now - this.countedAt < NUMBERS_EVERY_S) return;
    this.countedAt = now;
    const { latencyMs, delayMs, received, dropped } = stats;
    const ms = latencyMs === null ? null : Math.round(latencyMs / ROUND_MS) * ROUND_MS;
    this.#line(this.delay, delayText(ms === null ? null : ms / 1000, controller.playback !== null));
    this.#put(this.latency, ms === null ? "" : `${ms} ms`);
    const unheard = (controller.live?.skipped ?? 0) / (controller.live?.rate ?? 1);
    this.#line(this.loss, lossText(dropped, controller.dropReason, unheard));
    this.#put(this.dropped, received === 0 ? "" : `${received} came`);
    const aim = delayMs === null ? "" : ` The page aims at ${Math.round(delayMs)} ms.`;
    const measured = ms === null ? "" : ` Now ${ms} ms.`;
    this.#title(this.delay, `From a sound to the picture of it.${measured}${aim}`);
    this.#title(this.loss, `${received} pictures came, ${dropped} were skipped by the server.`);
  }

  #line(element, [mood, words]) {
    this.#put(element, words);
    if (element.dataset.mood !== mood) element.dataset.mood = mood;
  }

  #put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  #title(element, text) {
    const row = element.closest("div");
    if (row.title !== text) row.title = text;
  }

  /** @param {number} level of the newest sound, 0..1 @param {number} elapsed seconds */
  showLevel(level, elapsed) {
    const before = this.level;
    this.level = Math.max(level, this.level - 1.6 * elapsed);
    if (this.level === before) return;
    this.meter.style.transform = `scaleX(${(1 - this.level).toFixed(3)})`;
  }
}

/** Root mean square of the samples `first` .. `last` - 1. */
export function rms(samples, first = 0, last = samples.length) {
  let sum = 0;
  for (let i = first; i < last; i++) sum += samples[i] * samples[i];
  return Math.sqrt(sum / Math.max(1, last - first));
}

/** @param {number} loudness rms @returns {number} 0 (-54 dB and less) to 1 (-6 dB and more) */
export function levelOf(loudness) {
  const decibels = 20 * Math.log10(Math.max(loudness, 1e-5));
  return Math.max(0, Math.min(1, (decibels + 54) / 48));
}
