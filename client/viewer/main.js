// The page: finds its parts, wires them together, and draws for as long as it is open.

import { Dial } from "./ui/dial.js";
import { Face } from "./face/face.js";
import { FacePicker, isPicture } from "./photo/face-picker.js";
import { NEUTRAL } from "./face/landmarks.js";
import { Plot } from "./ui/plots.js";
import { Readout, levelOf, rms } from "./ui/readout.js";
import { RecordControl } from "./ui/record-control.js";
import { Recording } from "./ui/recording.js";
import { Screen, newStats } from "./ui/drawing.js";
import { Stage } from "./net/stage.js";
import { VoiceControls } from "./audio/voice.js";
import { copyLink, linkTo, settingsFrom } from "./ui/share.js";
import { iceServersFromQuery, streamUrl } from "./net/protocol.js";
import { showPresets } from "./ui/presets.js";
import { showSettings } from "./ui/settings.js";

const TICK_MS = 50;
const CHUNK_S = 0.02; // of the microphone
const HEARD_S = 1 / 30; // of a sound file, whose loudness is looked at

const part = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;
const stats = newStats();
const settings = settingsFrom(location.search);
const plot = new Plot(part("plot"));
const readout = new Readout({
  status: part("status"), meter: part("level"), delay: part("delay-words"),
  loss: part("loss-words"), latency: part("latency"), dropped: part("dropped"),
});
let state = "idle";
let loudness = 0; // the most since the last picture
let feeling = null; // the newest weights, until the server is told

const stage = new Stage({
  url: streamUrl(location),
  window: { hop: settings.hop, lookahead: settings.lookahead },
  iceServers: iceServersFromQuery(location.search),
  life: settings.life,
  told: tell,
  heard: (samples) => {
    const heard = rms(samples);
    loudness = Math.max(loudness, heard);
    plot.heard(capturedAt(samples.length) + behind(), levelOf(heard));
  },
});
const voice = new VoiceControls(
  {
    microphone: part("microphone"), words: part("microphone-words"), device: part("device"),
    file: part("file"), stopFile: part("stop-file"),
  },
  stage,
  { state: () => state, tell, dropped: (file) => isPicture(file) && (looks.photo(file), true) },
);
showSettings(
  { timing: part("timing"), life: part("life"), media: part("media") },
  stage,
  settings,
  () => voice.startAgain(),
);

function tell(next, details) {
  state = next;
  readout.tell(next, details);
  voice.show();
}

/** Seconds from a sound to its picture. */
const behind = () => (stats.latencyMs ?? stats.delayMs ?? 0) / 1000;

/** When the middle of the newest chunk was captured: chunks may come late, several at once. */
function capturedAt(samples) {
  const { live } = stage;
  const zero = live?.clock.zero ?? null;
  if (zero === null) return seconds() - CHUNK_S / 2;
  return zero + (live.position + samples / 2) / live.rate;
}

// ---- emotion

const markPreset = showPresets(part("presets"), (weights) => dial.mix(weights));
const dial = new Dial(
  {
    pad: part("pad"),
    knob: part("knob"),
    buttons: [...document.querySelectorAll("button[data-emotion]")],
    slider: part("intensity"),
    said: part("feeling"),
  },
  (weights) => {
    feeling = weights;
    markPreset(weights);
  },
);
setInterval(() => {
  if (feeling) stage.feel(feeling);
  feeling = null;
  stage.tick();
}, TICK_MS);

// ---- looks

const screen = new Screen(part("faces"), stats);
const drawn = { name: "drawn", drawer: new Face(part("face")), rest: NEUTRAL, identity: null };
export const setLook = (look) => {
  screen.setLook(look);
  stage.setLook(look);
};
setLook(drawn);
const looks = new FacePicker({
  section: part("look"),
  drawn,
  setLook,
  tell: (next, details) => readout.notice(next, details),
});
part("dots").addEventListener("change", ({ target }) => (screen.dots = target.checked));

// ---- recording, sharing

const recording = new Recording(stage, (recorded) => recordControl.done(recorded));
const recordControl = new RecordControl(
  {
    button: part("record"), words: part("record-words"), what: part("record-what"),
    time: part("record-time"), takes: part("takes"), told: part("takes-words"),
    links: part("takes-links"),
  },
  {
    start: () => {
      const background = getComputedStyle(document.body).backgroundColor;
      recording.start(screen.look.drawer, background);
    },
    stop: () => recording.stop(),
  },
);

const link = () =>
  linkTo(location, {
    emotion: dial.weights, ...stage.window, life: stage.life, media: stage.media, dots: screen.dots,
    look: looks.portrait,
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
  const filmed = recording.due;
  const { n, latency } = screen.draw((out) => stage.pose(out), filmed);
  screen.count(latency, stage);
  recording.tick(filmed ? screen.look.drawer : null, n, behind());
  recordControl.show(recording.seconds);
  hearFile(now);
  if (stage.live || stage.playback) plot.opened(now, screen.opening());
  plot.draw(now);
  readout.numbers(stats, stage, now);
  readout.sound(levelOf(loudness), (time - lastTime) / 1000);
  loudness = 0;
  lastTime = time;
  screen.took(performance.now() - began);
  requestAnimationFrame(draw);
}

/** A sound file is heard as the face says it. */
function hearFile(now) {
  const { playback } = stage;
  if (state !== "playing" || !playback) return;
  const { sampleRate, length } = playback.buffer;
  const last = Math.min(length, Math.round(playback.seconds(now) * sampleRate));
  const first = Math.max(0, last - Math.round(HEARD_S * sampleRate));
  const heard = rms(playback.buffer.getChannelData(0), first, last);
  loudness = Math.max(loudness, heard);
  plot.heard(now - HEARD_S / 2, levelOf(heard));
}

/** For tests and the curious. */
globalThis.kfusion = {
  get frame() {
    return stats.drawn > 0 ? screen.drawn : null;
  },
  get look() {
    return screen.look;
  },
  stats,
  plot,
  recording,
  get state() {
    return state;
  },
  get session() {
    return stage.session;
  },
  get seconds() {
    return stage.playback?.seconds(seconds()) ?? null;
  },
};

part("dots").checked = screen.dots = settings.dots;
looks.choose(settings.look);
if (Object.keys(settings.emotion).length > 0) dial.mix(settings.emotion);
readout.tell(state);
voice.show();
requestAnimationFrame(draw);
