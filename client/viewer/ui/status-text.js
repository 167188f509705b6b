// What the page tells, in plain words.

/** For each state: whether it is good news, and what to tell. `{...}` are filled in. */
export const STATUS_TEXT = {
  idle: ["calm", "Ready when you are: start the microphone, or play a sound file."],
  asking: ["busy", "Your browser asks whether this page may use the microphone. Choose Allow."],
  connecting: ["busy", "Connecting to the server…"],
  live: ["good", "Live. Say something."],
  unheard: [
    "warn",
    "Live, but no sound comes from this microphone. Is it muted? Another one can be chosen in " +
      "Settings.",
  ],
  quiet: ["good", "Connected. The microphone is off."],
  reconnecting: ["warn", "Connection lost. Trying again in {wait} s…"],
  busy: ["warn", "The server is full. Trying again in {wait} s."],
  full: ["bad", "The server stayed full. Wait a minute, then start again."],
  lost: [
    "bad",
    "The connection was lost and did not come back. Start again when the server is up.",
  ],
  unreachable: ["bad", "The server does not answer. See that it is running, then start again."],
  "no-webrtc": [
    "bad",
    "WebRTC found no way to the server. Choose WebSocket in Settings, then start again.",
  ],
  unauthorized: [
    "bad",
    "The server wants a token: open this page with ?token=… at the end of its address.",
  ],
  insecure: [
    "bad",
    "Browsers give the microphone only to https pages and localhost. Open this page over https, " +
      "or play a sound file.",
  ],
  refused: [
    "bad",
    "The microphone was refused. Allow it with the sign beside the page's address, then start " +
      "again.",
  ],
  "no-microphone": [
    "bad",
    "There is no such microphone. Plug one in, or choose another in Settings, then start again.",
  ],
  "microphone-busy": [
    "bad",
    "The microphone gives no sound. Close other programs that may use it, then start again.",
  ],
  gone: ["bad", "The microphone was unplugged. Plug it in again, then start it."],
  loading: ["busy", "Reading {file}…"],
  buffering: ["busy", "Waiting for the face of {file}…"],
  blocked: ["warn", "Press anywhere to hear {file}: the browser waits for you."],
  playing: ["good", "Playing {file}."],
  done: ["calm", "That was {file}."],
  unreadable: [
    "bad",
    "{file} is not a sound this browser can read. Try wav, mp3, m4a, ogg or flac.",
  ],
  "photo-looking": ["busy", "Looking for the face in {file}…"],
  "photo-check": ["calm", "Is this the face? Set points right that are off."],
  "photo-ready": ["good", "The photo is ready: start the microphone, or play a sound file."],
  "photo-open-mouth": [
    "good",
    "The photo is ready. Its mouth was open, so it is shut while nothing is said.",
  ],
  "photo-empty": ["bad", "{file} is empty: it has no bytes at all. Choose another photo."],
  "photo-unreadable": [
    "bad",
    "{file} is not a picture this page can read. Take a JPEG, PNG or WebP.",
  ],
  "photo-huge": [
    "bad",
    "{file} is too large ({megapixels} megapixels; up to 40 are read). Make it smaller first.",
  ],
  "photo-no-face": [
    "bad",
    "No face was found in this photo. Take one in which a face looks straight at the camera.",
  ],
  "photo-many-faces": [
    "bad",
    "There are {faces} faces in this photo. Cut it so that one is left, and drop it again.",
  ],
  "photo-small-face": [
    "bad",
    "The face is too small in this photo. Cut the photo closer round the head.",
  ],
  "photo-turned": [
    "bad",
    "The head is turned or tilted too far. Take a photo that looks straight at the camera.",
  ],
  "photo-no-finder": [
    "bad",
    "This server has no face finder for photos. Run “python -m client.parts” where it is " +
      "installed, then try again.",
  ],
  "photo-no-webgl": ["bad", "This browser cannot draw photos: it has no WebGL 2."],
  "photo-lost": ["bad", "This portrait could not be loaded. Is the server still running?"],
  "photo-failed": ["bad", "Something went wrong with this photo. Try another one."],
  failed: ["bad", "The server stopped the session: {message}. Start again."],
};

/** Why pictures were skipped, by the server's reason. */
const REASONS = {
  slow_reader: "the network is slow",
  overload: "the server has too much to do",
  resume: "the connection was lost for a while",
  reset: "the speech was broken off",
};

const DELAYS = [
  [0.45, "good", "good"],
  [0.75, "warn", "a bit late"],
  [Infinity, "bad", "late"],
];

/**
 * @param {number | null} seconds from voice to drawing @param {boolean} playing a file
 * @returns {[string, string]} mood and words
 */
export function delayText(seconds, playing) {
  if (seconds === null) return ["calm", playing ? "In step with the file" : "Shown once you speak"];
  const [, mood, words] = DELAYS.find(([most]) => seconds < most);
  return [mood, `${seconds.toFixed(1)} s behind your voice – ${words}`];
}

/**
 * @param {number} dropped frames @param {string | null} reason of the server
 * @param {number} unheard seconds of the voice that could not be sent
 * @returns {[string, string]} mood and words
 */
export function lossText(dropped, reason, unheard) {
  if (unheard >= 0.1) {
    return ["bad", `${unheard.toFixed(1)} s of your voice left out: the network is slow`];
  }
  if (dropped === 0) return ["calm", "None skipped"];
  const why = REASONS[reason] ? `: ${REASONS[reason]}` : "";
  return ["warn", `${dropped} picture${dropped === 1 ? "" : "s"} skipped${why}`];
}
