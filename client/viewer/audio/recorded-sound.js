// The sound of a recording: whatever speaks at the time, as late as the face that is drawn.

const DELAY_MOST_S = 2;
const GLIDE_S = 0.2; // how gently the delay follows that of the face

export class RecordedSound {
  constructor() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.context.resume();
    this.out = this.context.createMediaStreamDestination();
    this.delay = this.context.createDelay(DELAY_MOST_S);
    this.delay.connect(this.out);
    this.from = null;
    this.node = null;
  }

  /** @returns {MediaStreamTrack} silent while nothing speaks */
  get track() {
    return this.out.stream.getAudioTracks()[0];
  }

  /** To be called with every picture; `latency`: of the face behind the microphone, seconds. */
  follow({ microphone, playback }, latency) {
    const from = microphone ?? (playback?.source ? playback : null);
    if (from !== this.from) this.#listen(from, microphone?.stream);
    if (!from) return;
    const behind = microphone ? latency : lateness(playback.context);
    if (behind === null) return;
    const seconds = Math.min(DELAY_MOST_S, Math.max(0, behind));
    this.delay.delayTime.setTargetAtTime(seconds, this.context.currentTime, this.glide);
    this.glide = GLIDE_S;
  }

  close() {
    this.#listen(null);
    this.track.stop();
    this.context.close();
  }

  #listen(from, stream) {
    this.node?.disconnect();
    this.node = null;
    this.from = from;
    this.glide = 0.001; // at once, for nothing is heard yet
    if (!from) return;
    if (!stream) {
      // A sound file plays in a context of its own; a stream leads from there to here.
      const tap = from.context.createMediaStreamDestination();
      from.source.connect(tap);
      stream = tap.stream;
    }
    this.node = this.context.createMediaStreamSource(stream);
    this.node.connect(this.delay);
  }
}

/** How much later than it is played a file is heard, and its face drawn. */
const lateness = ({ baseLatency, outputLatency }) => (baseLatency ?? 0) + (outputLatency ?? 0);
