// What the page says about itself, in plain words.

/** For each state: whether it is good news, and what to tell. `{...}` are filled in. */
const WORDS = {
  idle: ["calm", "Ready when you are: start the microphone, or play a sound file."],
  asking: ["busy", "Your browser asks whether this page may use the microphone."],
  connecting: ["busy", "Connecting to the server…"],
  live: ["good", "Live. Say something."],
  unheard: ["warn", "Live, but no sound comes from this microphone. Is it muted, or the wrong one?"],
  quiet: ["good", "Connected. The microphone is off."],
  reconnecting: ["warn", "Connection lost. Trying again in {wait} s…"],
  busy: ["warn", "The server is full. Trying again in {wait} s."],
  full: ["bad", "The server stayed full. Try again in a while."],
  lost: ["bad", "The connection was lost and did not come back. Start again when the server is up."],
  unreachable: ["bad", "The server does not answer. Is it still running?"],
  "no-webrtc": [
    "bad",
    "WebRTC found no way to the server. Choose WebSocket as the connection, and start again.",
  ],
  unauthorized: ["bad", "The server wants a token: open this page with ?token=… in its address."],
  insecure: [
    "bad",
    "Browsers give the microphone only to https pages and localhost. Open this page over https.",
  ],
  refused: [
    "bad",
    "The microphone was refused. Allow it with the sign beside the page's address, then start again.",
  ],
  "no-microphone": ["bad", "No such microphone is there. Plug one in, or choose another."],
  "microphone-busy": ["bad", "The microphone gives no sound. Perhaps another program holds it."],
  gone: ["bad", "The microphone was unplugged."],
  loading: ["busy", "Reading {file}…"],
  buffering: ["busy", "Waiting for the face of {file}…"],
  blocked: ["warn", "Press anywhere to hear {file}: the browser waits for you."],
  playing: ["good", "Playing {file}."],
  done: ["calm", "That was {file}."],
  unreadable: ["bad", "{file} is not a sound this browser can read. Try wav, mp3, m4a, ogg or flac."],
  failed: ["bad", "The server stopped the session: {message}"],
};

const ROUND_MS = 5;

export class Readout {
  /**
   * @param {{status: HTMLElement, latency: HTMLElement, dropped: HTMLElement,
   *   meter: HTMLElement}} parts
   */
  constructor(parts) {
    Object.assign(this, parts);
    this.level = 0;
    this.text = "";
  }

  /** @param {string} state @param {Record<string, string | number>} details */
  tell(state, details = {}) {
    const [mood, words] = WORDS[state] ?? WORDS.failed;
    const text = words.replace(/\{(\w+)\}/g, (_, name) => String(details[name] ?? state));
    if (text !== this.text) this.status.textContent = text; // textContent: it may quote the server
    this.text = text;
    this.status.dataset.mood = mood;
  }

  /** @param {number | null} seconds from voice to drawing @param {number} dropped frames */
  numbers(seconds, dropped) {
    const ms = seconds === null ? null : Math.round((seconds * 1000) / ROUND_MS) * ROUND_MS;
    this.#put(this.latency, ms === null ? "–" : `${ms} ms`);
    this.#put(this.dropped, String(dropped));
  }

  #put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  /** @param {number} rms of the newest sound, 0..1 @param {number} elapsed seconds */
  sound(rms, elapsed) {
    const decibels = 20 * Math.log10(Math.max(rms, 1e-5));
    const level = Math.max(0, Math.min(1, (decibels + 60) / 54));
    this.level = Math.max(level, this.level - 1.6 * elapsed);
    this.meter.style.transform = `scaleX(${this.level.toFixed(3)})`;
  }
}

/** @param {Float32Array} samples @returns {number} root mean square */
export function rms(samples) {
  let sum = 0;
  for (let i = 0; i < samples.length; i++) sum += samples[i] * samples[i];
  return Math.sqrt(sum / Math.max(1, samples.length));
}
