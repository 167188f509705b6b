// What the page tells, in plain words.

/** What to tell in each state, by whether it is good news. `{...}` are filled in. */
const TEXTS = {
  calm: {
    idle: "Ready when you are: start the microphone, or play a sound file.",
    done: "That was {file}.",
    "photo-check": "Is this the face? Set points right that are off.",
  },
  busy: {
    asking: "Your browser asks whether this page may use the microphone. Choose Allow.",
    connecting: "Connecting to the server…",
    loading: "Reading {file}…",
    buffering: "Waiting for the face of {file}…",
    "photo-looking": "Looking for the face in {file}…",
  },
  good: {
    live: "Live. Say something.",
    quiet: "Connected. The microphone is off.",
    playing: "Playing {file}.",
    "photo-ready": "The photo is ready: start the microphone, or play a sound file.",
    "photo-open-mouth":
      "The photo is ready. Its mouth was open, so it is shut while nothing is said.",
  },
  warn: {
    unheard:
      "Live, but no sound comes from this microphone. Is it muted? Another one can be chosen " +
      "in Settings.",
    reconnecting: "Connection lost. Trying again in {wait} s…",
    busy: "The server is full. Trying again in {wait} s.",
    blocked: "Press anywhere to hear {file}: the browser waits for you.",
  },
  bad: {
    full: "The server stayed full. Wait a minute, then start again.",
    lost: "The connection was lost and did not come back. Start again when the server is up.",
    unreachable: "The server does not answer. See that it is running, then start again.",
    "no-webrtc":
      "WebRTC found no way to the server. Choose WebSocket in Settings, then start again.",
    unauthorized:
      "The server wants a token: open this page with ?token=… at the end of its address.",
    insecure:
      "Browsers give the microphone only to https pages and localhost. Open this page over " +
      "https, or play a sound file.",
    refused: "The microphone was refused. Allow it with the sign beside the page's address, then " +
      "start again.",
    "no-microphone":
      "There is no such microphone. Plug one in, or choose another in Settings, then start again.",
    "microphone-busy":
      "The microphone gives no sound. Close other programs that may use it, then start again.",
    gone: "The microphone was unplugged. Plug it in again, then start it.",
    unreadable: "{file} is not a sound this browser can read. Try wav, mp3, m4a, ogg or flac.",
    "photo-empty": "{file} is empty: it has no bytes at all. Choose another photo.",
    "photo-unreadable": "{file} is not a picture this page can read. Take a JPEG, PNG or WebP.",
    "photo-huge":
      "{file} is too large ({megapixels} megapixels; up to 40 are read). Make it smaller first.",
    "photo-no-face":
      "No face was found in this photo. Take one in which a face looks straight at the camera.",
    "photo-many-faces":
      "There are {faces} faces in this photo. Cut it so that one is left, and drop it again.",
    "photo-small-face": "The face is too small in this photo. Cut the photo closer round the head.",
    "photo-turned":
      "The head is turned or tilted too far. Take a photo that looks straight at the camera.",
    "photo-no-finder":
      "This server has no face finder for photos. Run “python -m client.parts” where it is " +
      "installed, then try again.",
    "photo-no-webgl": "This browser cannot draw photos: it has no WebGL 2.",
    "photo-lost": "This portrait could not be loaded. Is the server still running?",
    "photo-failed": "Something went wrong with this photo. Try another one.",
    failed: "The server stopped the session: {message}. Start again.",
  },
};

/** Mood and text of each state. */
export const STATUS_TEXT = Object.fromEntries(Object.entries(TEXTS).flatMap(([mood, texts]) =>
  Object.entries(texts).map(([state, text]) => [state, [mood, text]])));

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

/** Mood and words for `seconds` from voice to drawing; `playing`: a file. */
export function delayText(seconds, playing) {
  if (seconds === null) return ["calm", playing ? "In step with the file" : "Shown once you speak"];
  const [, mood, words] = DELAYS.find(([most]) => seconds < most);
  return [mood, `${seconds.toFixed(1)} s behind your voice – ${words}`];
}

/** Mood and words for dropped frames; `unheard`: seconds of the voice that were not sent. */
export function lossText(dropped, reason, unheard) {
  if (unheard >= 0.1) {
    return ["bad", `${unheard.toFixed(1)} s of your voice left out: the network is slow`];
  }
  if (dropped === 0) return ["calm", "None skipped"];
  const why = REASONS[reason] ? `: ${REASONS[reason]}` : "";
  return ["warn", `${dropped} picture${dropped === 1 ? "" : "s"} skipped${why}`];
}
