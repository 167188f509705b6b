// The page: finds its parts, wires them together, draws.

import { Dial } from "./dial.js";
import { Face } from "./face.js";
import { MicrophoneError, microphones } from "./microphone.js";
import { NEUTRAL } from "./landmarks.js";
import { Readout, rms } from "./readout.js";
import { Stage } from "./stage.js";
import {
  WIDTH, iceServersFromQuery, lifeFromQuery, streamUrl, windowFromQuery,
} from "./protocol.js";

const TICK_MS = 50;
const SMOOTH = 0.05;

const part = (id) => document.getElementById(id);
const face = new Face(part("face"));
const readout = new Readout({
  status: part("status"), latency: part("latency"), dropped: part("dropped"), meter: part("level"),
});
const stats = {
  drawn: 0, // pictures
  scriptMs: 0, // to draw one, smoothed
  latencyMs: null, // from a frame's being spoken to its drawing, smoothed
  delayMs: null, // what playout aims at
  received: 0, // frames, of all sessions
  dropped: 0, // frames, of this session
  rate: 0, // of its audio
};
let state = "idle";
let loudness = 0;
let feeling = null; // the newest weights, until the server is told

const stage = new Stage({
  url: streamUrl(location),
  window: windowFromQuery(location.search),
  iceServers: iceServersFromQuery(location.search),
  life: lifeFromQuery(location.search),
  told: (next, details) => {
    state = next;
    readout.tell(next, details);
    showButtons();
  },
  heard: (samples) => (loudness = Math.max(loudness, rms(samples))),
});

new Dial(
  {
    pad: part("pad"),
    knob: part("knob"),
    buttons: [...document.querySelectorAll("button[data-emotion]")],
    slider: part("intensity"),
    said: part("feeling"),
  },
  (weights) => {
    feeling = weights;
  },
);
setInterval(() => {
  if (feeling) stage.feel(feeling);
  feeling = null;
  stage.tick();
}, TICK_MS);

// ---- controls

const starting = () => state === "asking";
const talking = () => stage.microphone !== null || starting();

function showButtons() {
  const on = talking();
  part("microphone").setAttribute("aria-pressed", String(on));
  part("microphone-words").textContent = on ? "Stop microphone" : "Start microphone";
  part("stop-file").hidden = stage.playback === null && state !== "loading";
}

async function startMicrophone() {
  try {
    await stage.startMicrophone(part("device").value);
    await listMicrophones();
  } catch (error) {
    if (!(error instanceof MicrophoneError)) throw error;
    stage.stopMicrophone();
    state = error.code;
    readout.tell(state);
  }
  showButtons();
}

async function listMicrophones() {
  const picker = part("device");
  const chosen = stage.microphone?.deviceId ?? picker.value;
  const found = await microphones();
  if (found.length === 0) return;
  picker.replaceChildren(...found.map(({ deviceId, label }) => new Option(label, deviceId)));
  picker.value = found.some(({ deviceId }) => deviceId === chosen) ? chosen : found[0].deviceId;
  picker.disabled = false;
}

part("microphone").addEventListener("click", () => {
  if (talking()) stage.stopMicrophone();
  else startMicrophone();
  showButtons();
});
function startAgain() {
  if (!talking()) return;
  stage.stopMicrophone();
  startMicrophone();
}
part("device").addEventListener("change", startAgain);
part("media").addEventListener("change", ({ target }) => {
  stage.media = target.value;
  startAgain();
});
navigator.mediaDevices?.addEventListener("devicechange", () => {
  if (stage.microphone) listMicrophones();
});

part("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) stage.play(file);
  target.value = ""; // so that the same file can be chosen again
});
part("stop-file").addEventListener("click", () => stage.stopFile());
addEventListener("pointerdown", () => {
  if (state === "blocked") stage.playback?.context.resume();
});

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
  if (file) stage.play(file);
});

// ---- drawing

const pose = NEUTRAL.slice();
const drawn = { n: -1, points: NEUTRAL.slice() };
let stale = true; // must be drawn even if the pose has not changed
let lastTime = 0;

part("dots").addEventListener("change", ({ target }) => {
  face.dots = target.checked;
  stale = true;
});
new ResizeObserver(() => {
  face.resize();
  stale = true;
}).observe(part("face"));

function changed() {
  for (let i = 0; i < WIDTH; i++) if (Math.abs(pose[i] - drawn.points[i]) > 0.01) return true;
  return false;
}

function draw(time) {
  const began = performance.now();
  const { n, latency } = stage.pose(pose);
  if (stale || changed()) {
    face.draw(pose);
    stale = false;
    drawn.points.set(pose);
    stats.drawn += 1;
    stats.scriptMs += SMOOTH * (performance.now() - began - stats.scriptMs);
  }
  drawn.n = n;
  count(latency);
  readout.sound(loudness, (time - lastTime) / 1000);
  loudness = 0;
  lastTime = time;
  requestAnimationFrame(draw);
}

function count(latency) {
  const ms = latency === null ? null : latency * 1000;
  const before = stats.latencyMs ?? ms;
  stats.latencyMs = ms === null ? null : before + SMOOTH * (ms - before);
  stats.delayMs = stage.live ? stage.live.delay.seconds * 1000 : null;
  stats.received = stage.received;
  stats.dropped = stage.dropped;
  stats.rate = stage.session?.rate ?? 0;
  readout.numbers(stats.latencyMs === null ? null : stats.latencyMs / 1000, stats.dropped);
}

/** For tests and the curious. */
globalThis.kfusion = {
  get frame() {
    return stats.drawn > 0 ? drawn : null;
  },
  stats,
  get state() {
    return state;
  },
  get session() {
    return stage.session;
  },
  get seconds() {
    return stage.playback?.seconds(performance.now() / 1000) ?? null;
  },
};

if (new URLSearchParams(location.search).get("media") === "webrtc") {
  part("media").value = stage.media = "webrtc";
}
readout.tell(state);
showButtons();
requestAnimationFrame(draw);
