// The page: finds its parts, wires them together, and draws for as long as it is open.

import { Dial } from "./ui/dial.js";
import { Face } from "./face/face.js";
import { FacePicker, isPicture } from "./photo/face-picker.js";
import { NEUTRAL } from "./face/landmarks.js";
import { Plot } from "./ui/plot.js";
import { StatusPanel, levelOf, rms } from "./ui/status-panel.js";
import { RecordControl } from "./ui/record-control.js";
import { Recording } from "./ui/recording.js";
import { FaceView, newStats } from "./ui/face-view.js";
import { Controller } from "./net/controller.js";
import { InputControls } from "./audio/input-controls.js";
import { copyLink, linkTo, settingsFrom } from "./ui/share.js";
import { iceServersFromQuery, streamUrl } from "./net/protocol.js";
import { showPresets } from "./ui/presets.js";
import { showSettings } from "./ui/settings.js";

const TICK_MS = 50;
const CHUNK_S = 0.02; // of the microphone
const VOLUME_S = 1 / 30; // of a sound file, over which loudness is measured

const part = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;
const stats = newStats();
const settings = settingsFrom(location.search);
const plot = new Plot(part("plot"));
const statusPanel = new StatusPanel({
  status: part("status"), meter: part("level"), delay: part("delay-words"),
  loss: part("loss-words"), latency: part("latency"), dropped: part("dropped"),
});
let state = "idle";
let loudness = 0; // the most since the last picture
let pendingWeights = null; // the newest weights, until the server is told

const controller = new Controller({
  url: streamUrl(location),
  window: { hop: settings.hop, lookahead: settings.lookahead },
  iceServers: iceServersFromQuery(location.search),
  life: settings.life,
  onState: setState,
  onAudio: (samples) => {
    const volume = rms(samples);
    loudness = Math.max(loudness, volume);
    plot.addVoice(capturedAt(samples.length) + behind(), levelOf(volume));
  },
});
const input = new InputControls(
  {
    microphone: part("microphone"), words: part("microphone-words"), device: part("device"),
    file: part("file"), stopFile: part("stop-file"),
  },
  controller,
  {
    state: () => state,
    setState,
    dropped: (file) => isPicture(file) && (picker.photo(file), true),
  },
);
showSettings(
  { timing: part("timing"), life: part("life"), media: part("media") },
  controller,
  settings,
  () => input.startAgain(),
);

function setState(next, details) {
  state = next;
  statusPanel.show(next, details);
  input.show();
}

/** Seconds from a sound to its picture. */
const behind = () => (stats.latencyMs ?? stats.delayMs ?? 0) / 1000;

/** When the middle of the newest chunk was captured: chunks may come late, several at once. */
function capturedAt(samples) {
  const { live } = controller;
  const zero = live?.clock.zero ?? null;
  if (zero === null) return seconds() - CHUNK_S / 2;
  return zero + (live.position + samples / 2) / live.rate;
}

// ---- emotion

const markPreset = showPresets(part("presets"), (weights) => dial.setWeights(weights));
const dial = new Dial(
  {
    pad: part("pad"),
    knob: part("knob"),
    buttons: [...document.querySelectorAll("button[data-emotion]")],
    slider: part("intensity"),
    output: part("feeling"),
  },
  (weights) => {
    pendingWeights = weights;
    markPreset(weights);
  },
);
setInterval(() => {
  if (pendingWeights) controller.setEmotion(pendingWeights);
  pendingWeights = null;
  controller.tick();
}, TICK_MS);

// ---- face

const faceView = new FaceView(part("faces"), stats);
const drawn = { name: "drawn", drawer: new Face(part("face")), rest: NEUTRAL, identity: null };
export const setLook = (look) => {
  faceView.setLook(look);
  controller.setLook(look);
};
setLook(drawn);
const picker = new FacePicker({
  section: part("look"),
  drawn,
  setLook,
  showNotice: (next, details) => statusPanel.showNotice(next, details),
});
part("dots").addEventListener("change", ({ target }) => (faceView.dots = target.checked));

// ---- recording, sharing

const recording = new Recording(controller, (recorded) => recordControl.done(recorded));
const recordControl = new RecordControl(
  {
    button: part("record"), words: part("record-words"), what: part("record-what"),
    time: part("record-time"), takes: part("takes"), summary: part("takes-words"),
    links: part("takes-links"),
  },
  {
    start: () => {
      const background = getComputedStyle(document.body).backgroundColor;
      recording.start(faceView.look.drawer, background);
    },
    stop: () => recording.stop(),
  },
);

const link = () =>
  linkTo(location, {
    emotion: dial.weights, ...controller.window, life: controller.life,
    media: controller.media, dots: faceView.dots, look: picker.portrait,
  });
const sharing = {
  button: part("share"), words: part("share-words"), place: part("link-field"), field: part("link"),
};
part("share").addEventListener("click", () => copyLink(link(), sharing));

// ---- drawing

let lastTime = 0;

function draw(time) {
  const began = performance.now();
  const now = seconds();
  const due = recording.due;
  const { n, latency } = faceView.draw((out) => controller.pose(out), due);
  faceView.updateStats(latency, controller);
  recording.tick(due ? faceView.look.drawer : null, n, behind());
  recordControl.show(recording.seconds);
  measureFile(now);
  if (controller.live || controller.playback) plot.addMouth(now, faceView.opening());
  plot.draw(now);
  statusPanel.showNumbers(stats, controller, now);
  statusPanel.showLevel(levelOf(loudness), (time - lastTime) / 1000);
  loudness = 0;
  lastTime = time;
  faceView.recordTime(performance.now() - began);
  requestAnimationFrame(draw);
}

/** The loudness of a sound file as it plays. */
function measureFile(now) {
  const { playback } = controller;
  if (state !== "playing" || !playback) return;
  const { sampleRate, length } = playback.buffer;
  const last = Math.min(length, Math.round(playback.seconds(now) * sampleRate));
  const first = Math.max(0, last - Math.round(VOLUME_S * sampleRate));
  const volume = rms(playback.buffer.getChannelData(0), first, last);
  loudness = Math.max(loudness, volume);
  plot.addVoice(now - VOLUME_S / 2, levelOf(volume));
}

/** For tests and the curious. */
globalThis.kfusion = {
  get frame() {
    return stats.drawn > 0 ? faceView.drawn : null;
  },
  get look() {
    return faceView.look;
  },
  stats,
  plot,
  recording,
  get state() {
    return state;
  },
  get session() {
    return controller.session;
  },
  get seconds() {
    return controller.playback?.seconds(seconds()) ?? null;
  },
};

part("dots").checked = faceView.dots = settings.dots;
picker.choose(settings.look);
if (Object.keys(settings.emotion).length > 0) dial.setWeights(settings.emotion);
statusPanel.show(state);
input.show();
requestAnimationFrame(draw);
