// A sound file: sent to the server faster than it plays, drawn in step with what is heard.

import { FPS, s16le } from "../net/protocol.js";
import { makeContext } from "./audio-context.js";
import { SteadyClock } from "../net/playout.js";

const CHUNK_S = 0.1;
const BACKLOG_MOST_BYTES = 256 * 1024;
const SENT_AHEAD_MOST_S = 30; // bounds what the page, the server and the network hold
const START_AHEAD_S = 0.5;
const BLOCKED_AFTER_S = 0.5; // the browser lets no sound out before someone has touched the page

/**
 * @param {File} file anything the browser can decode
 * @returns {Promise<{context: AudioContext, buffer: AudioBuffer}>} the context stands still
 */
export async function decode(file) {
  const context = makeContext("playback");
  try {
    const buffer = await context.decodeAudioData(await file.arrayBuffer());
    // In WebKit a context that has not started yet never comes to answer.
    if (context.state === "running") await context.suspend();
    return { context, buffer };
  } catch (error) {
    context.close();
    throw error;
  }
}

/** The mean of all channels over samples first..last-1. */
function mono(buffer, first, last) {
  const mixed = new Float32Array(last - first);
  for (let c = 0; c < buffer.numberOfChannels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = first; i < last; i++) mixed[i - first] += channel[i] / buffer.numberOfChannels;
  }
  return mixed;
}

export class Playback {
  /** `session`: in mode file, at the buffer's rate. */
  constructor(context, buffer, session) {
    Object.assign(this, { context, buffer, session });
    this.frames = Math.ceil((buffer.length * FPS) / buffer.sampleRate);
    this.sent = 0; // samples
    this.ended = false; // `end` was sent
    this.complete = false; // every frame came
    this.running = false;
    this.startedAt = 0;
    this.ranAt = 0;
    this.finished = false;
    this.clock = new SteadyClock();
    this.source = null;
  }

  /** The server has answered; after a lost connection it says where to go on. */
  ready(ready) {
    this.sent = ready.audio_position;
    this.ended = false;
  }

  /**
   * To be called every 50 ms or so: sends on, and starts or halts the sound.
   * @param {number} newest the newest frame there is
   * @returns {"buffering" | "blocked" | "playing" | "done"}
   */
  tick(newest, now) {
    this.#send(now);
    if (this.finished) return "done";
    const heard = this.seconds(now);
    const all = this.complete || newest + 1 >= this.frames;
    const ahead = (newest + 1) / FPS - heard;
    if (!this.running && (all || ahead >= START_AHEAD_S)) this.#run(now);
    else if (this.running && !all && ahead < 1 / FPS) this.#halt();
    if (!this.running) return "buffering";
    if (this.context.state === "running") return "playing";
    return now - this.ranAt > BLOCKED_AFTER_S ? "blocked" : "buffering";
  }

  /** What is being heard now, in seconds of the file. */
  seconds(now) {
    if (!this.source) return 0;
    const { currentTime, baseLatency, outputLatency, state } = this.context;
    const heard = currentTime - this.startedAt - (baseLatency ?? 0) - (outputLatency ?? 0);
    return this.clock.read(Math.max(0, heard), now, state === "running");
  }

  /** @returns {number | null} the frame to show, with its fraction */
  frameAt(now) {
    return this.source ? this.seconds(now) * FPS : null;
  }

  close() {
    this.finished = true;
    if (this.source) this.source.onended = null;
    this.context.close();
  }

  #run(now) {
    this.running = true;
    this.ranAt = now;
    this.context.resume();
    if (this.source) return;
    this.source = this.context.createBufferSource();
    this.source.buffer = this.buffer;
    this.source.connect(this.context.destination);
    this.source.onended = () => (this.finished = true);
    this.startedAt = this.context.currentTime;
    this.source.start(this.startedAt);
  }

  #halt() {
    this.running = false;
    this.context.suspend();
  }

  #send(now) {
    const { length, sampleRate } = this.buffer;
    const most = Math.min(length, (this.seconds(now) + SENT_AHEAD_MOST_S) * sampleRate);
    const step = Math.round(CHUNK_S * sampleRate);
    while (this.session.open && this.sent < most && this.session.backlog < BACKLOG_MOST_BYTES) {
      const last = Math.min(this.sent + step, length);
      this.session.audio(s16le(mono(this.buffer, this.sent, last)));
      this.sent = last;
    }
    if (this.session.open && this.sent >= length && !this.ended) {
      this.ended = true;
      this.session.end();
    }
  }
}
