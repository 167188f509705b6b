// Stream protocol, version 1: the messages of the page and of the server, and nothing else.
// No DOM and no socket here, so any transport can carry what this builds and parses.

export const SUBPROTOCOL = "kfusion.v1";
export const FPS = 30;
const POINTS = 68;
export const WIDTH = 2 * POINTS;
const HOPS = [1, 2, 3, 5, 6, 10, 15, 30];
export const RATES = { least: 8000, most: 96000 };
export const KIND = { points: 1, arkit52: 2, vrm: 3 };
export const EMOTIONS = [
  "angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised",
];

const HEADER_BYTES = 24;
const MAGIC = 0x314c464b; // "KFL1" as a little-endian u32
const SILENCE_MOST_S = 60;

/** @typedef {{hop: number, lookahead: number}} Window - both in frames. */
/** @typedef {{points: number[][]}} Face - 68 pairs of a face at rest, in any coordinates. */
/** @typedef {Record<string, number>} Weights - emotion name -> 0..1, summing to at most 1. */

/** The address of the stream of the page's own server, with the token of the page's address. */
export function streamUrl(location) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const token = new URLSearchParams(location.search).get("token");
  const query = token ? `?token=${encodeURIComponent(token)}` : "";
  return `${scheme}//${location.host}/v1/stream${query}`;
}

/** `?hop=` and `?lookahead=`; what is not allowed falls back to 3. @returns {Window} */
export function windowFromQuery(search) {
  const query = new URLSearchParams(search);
  const whole = (name) => (/^\d{1,2}$/.test(query.get(name) ?? "") ? Number(query.get(name)) : 3);
  const hop = HOPS.includes(whole("hop")) ? whole("hop") : 3;
  const lookahead = whole("lookahead");
  return { hop, lookahead: hop + lookahead <= 30 ? lookahead : Math.min(3, 30 - hop) };
}

/** `?life=`, 0..1: how much the face blinks and moves of itself; 1 by default. */
export function lifeFromQuery(search) {
  const life = Number.parseFloat(new URLSearchParams(search).get("life") ?? "1");
  return life >= 0 && life <= 1 ? life : 1;
}

/** `?ice=`, any number: STUN servers for WebRTC, none by default. @returns {RTCIceServer[]} */
export function iceServersFromQuery(search) {
  const urls = new URLSearchParams(search).getAll("ice").filter((url) => /^stuns?:\S+$/.test(url));
  return urls.map((url) => ({ urls: url }));
}

/** The first message of a session: mono s16le in, binary points out. */
export function start(options) {
  const { rate, mode, media = "socket", hop, lookahead, life = 0, seed = 0, emotion } = options;
  const message = {
    type: "start",
    audio: { rate, channels: 1, format: "s16le" },
    encoding: "binary",
    outputs: ["points"],
    hop,
    lookahead,
    mode,
    media,
    life,
    seed,
    emotion,
  };
  return options.identity ? { ...message, identity: options.identity } : message;
}

/** Another face from the next window on, null for the neutral one. A face has one id. */
export function identity(face) {
  if (face === null) return { type: "identity", id: "neutral" };
  return { type: "identity", id: `face-${nameOf(face.points)}`, points: face.points };
}

/** 64 bits of FNV-1a over the points' digits, as two halves. */
function nameOf(points) {
  const halves = [0x811c9dc5, 0xcbf29ce4];
  for (const character of JSON.stringify(points)) {
    halves.forEach((half, k) => {
      halves[k] = Math.imul(half ^ character.charCodeAt(0), 0x01000193 + 2 * k);
    });
  }
  return halves.map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}

/** @param {string} token @param {number} next the first frame wanted */
export const resume = (token, next) => ({ type: "start", resume: { token, next } });

/** @param {Weights} weights @param {number} ramp seconds */
export const emotion = (weights, ramp = 0.3) => ({ type: "emotion", weights, ramp });

export const end = () => ({ type: "end" });

/** Silence of any number of samples, as messages of at most 60 s each. */
export function silences(samples, rate) {
  const messages = [];
  for (let left = samples; left > 0; left -= SILENCE_MOST_S * rate) {
    messages.push({ type: "silence", samples: Math.min(left, SILENCE_MOST_S * rate) });
  }
  return messages;
}

/** A text message of the server, or null where it is not one (the client ignores it). */
export function parseText(text) {
  try {
    const message = JSON.parse(text);
    return message && typeof message.type === "string" ? message : null;
  } catch {
    return null;
  }
}

/**
 * A binary message: `count` consecutive frames from `n`, as views into `buffer`; or null.
 *
 * Header, 24 bytes, little endian: magic KFL1, u8 kind, u8 flags, u16 count, u64 n, u64 server
 * clock (microseconds since the session's first ready); then count * width float32.
 */
export function parseFrames(buffer) {
  if (buffer.byteLength < HEADER_BYTES) return null;
  const view = new DataView(buffer);
  const count = view.getUint16(6, true);
  const floats = (buffer.byteLength - HEADER_BYTES) / 4;
  if (view.getUint32(0, true) !== MAGIC || count === 0 || floats % count !== 0) return null;
  const kind = view.getUint8(4);
  const width = floats / count;
  if (kind === KIND.points && width !== WIDTH) return null;
  const frames = Array.from(
    { length: count },
    (_, k) => new Float32Array(buffer, HEADER_BYTES + 4 * width * k, width),
  );
  const n = Number(view.getBigUint64(8, true));
  return { kind, n, count, clock: Number(view.getBigUint64(16, true)), width, frames };
}

/** Samples -1..1 -> s16le bytes, clipped; the page runs on little-endian machines only. */
export function s16le(samples) {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    pcm[i] = Math.round(Math.max(-1, Math.min(1, samples[i])) * 32767);
  }
  return pcm.buffer;
}
