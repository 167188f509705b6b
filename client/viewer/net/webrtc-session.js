// One session with the server over WebRTC: the microphone as an Opus track, frames on a data
// channel that never waits for what is lost. The WebSocket stays for everything that is said.
// It has the verbs of session.js and the same listener.

import * as protocol from "./protocol.js";
import { Session } from "./session.js";

const CHANNEL = "kfusion";
const GATHER_MOST_MS = 3000; // to find this machine's addresses
const OPEN_MOST_MS = 8000;
const LAST_MOST_MS = 2000; // for frames that are on their way when all is said
const TRIES = 3; // of finding a way, before it is given up

/** An offer with everything in it, for addresses are not sent one by one. */
async function completeOffer(peer) {
  await peer.setLocalDescription(await peer.createOffer());
  await new Promise((done) => {
    const gathered = () => peer.iceGatheringState === "complete" && done();
    peer.addEventListener("icegatheringstatechange", gathered);
    setTimeout(done, GATHER_MOST_MS);
    gathered();
  });
  return peer.localDescription.sdp;
}

export class WebRtcSession {
  /** `start`: the message, with media webrtc; `track`: of the microphone. */
  constructor({ url, start, track, iceServers = [], listener }) {
    Object.assign(this, { listener, iceServers, track });
    this.tries = 0;
    this.session = new Session({
      url,
      start,
      listener: {
        ...listener,
        ready: (ready, resumed) => this.#ready(ready, resumed),
        message: (message) => this.#message(message),
        lost: (wait) => {
          this.#hangUp();
          listener.lost(wait);
        },
        closed: async (why) => {
          const peer = this.#peer;
          if (why.code === "end") await this.#emptied();
          if (this.#peer !== peer) return; // hung up meanwhile
          this.#hangUp();
          listener.closed(why);
        },
      },
    });
  }

  #peer = null;
  #channel = null;
  #sender = null;
  #timer = 0;
  #greeting = null; // what to tell once frames can come
  sentBytes = 0;
  keepsTime = true; // the server counts what the track brings it, and nothing that was missed

  get rate() {
    return this.session.rate;
  }

  get dropped() {
    return this.session.dropped;
  }

  get open() {
    return this.#channel?.readyState === "open" && this.session.open;
  }

  get backlog() {
    return 0; // the browser sends sound when it is due, or not at all
  }

  /** The track carries the sound. */
  audio() {
    return this.open;
  }

  /** A track that has sound is the only clock; without one, silence moves time. */
  silence(samples) {
    return this.open && this.track?.readyState !== "live" && this.session.silence(samples);
  }

  send(message) {
    return this.session.send(message);
  }

  end() {
    this.session.end();
  }

  close() {
    this.#hangUp();
    this.session.close();
  }

  /** Another microphone. @param {MediaStreamTrack} track */
  use(track) {
    this.track = track;
    if (this.#channel?.readyState === "open") this.#sender.replaceTrack(track);
  }

  #ready(ready, resumed) {
    this.#greeting = () => this.listener.ready(ready, resumed);
    this.#dial();
  }

  #message(message) {
    if (message.type === "answer") this.#answered(message.sdp);
    else this.listener.message?.(message);
  }

  async #dial() {
    this.#hangUp();
    const peer = new RTCPeerConnection({ iceServers: this.iceServers });
    this.#peer = peer;
    const mine = (act) => (event) => this.#peer === peer && act(event);
    this.#timer = setTimeout(mine(() => this.#failed()), OPEN_MOST_MS);
    peer.onconnectionstatechange = mine(() => peer.connectionState === "failed" && this.#failed());
    // The sound begins once frames can come back, so that none of it is for nothing.
    this.#sender = peer.addTransceiver("audio", { direction: "sendonly" }).sender;
    const channel = peer.createDataChannel(CHANNEL, { ordered: false, maxRetransmits: 0 });
    channel.binaryType = "arraybuffer";
    channel.onmessage = mine(({ data }) => this.#frames(data));
    channel.onopen = mine(async () => {
      clearTimeout(this.#timer);
      this.#channel = channel;
      this.tries = 0;
      await this.#sender.replaceTrack(this.track);
      this.#greeting?.();
      this.#greeting = null;
    });
    const sdp = await completeOffer(peer);
    if (this.#peer === peer) this.session.send({ type: "offer", sdp });
  }

  async #answered(sdp) {
    const peer = this.#peer;
    if (peer?.signalingState !== "have-local-offer") return;
    try {
      await peer.setRemoteDescription({ type: "answer", sdp });
    } catch {
      if (this.#peer === peer) this.#failed();
    }
  }

  #frames(data) {
    const batch = protocol.parseFrames(data);
    if (batch?.kind !== protocol.KIND.points) return;
    this.session.answered();
    this.session.nextFrame = Math.max(this.session.nextFrame, batch.n + batch.count);
    this.listener.frames(batch.n, batch.frames);
  }

  /** The server closes the channel when the last frame is sent. */
  #emptied() {
    const channel = this.#channel;
    if (channel?.readyState !== "open") return null;
    return new Promise((done) => {
      channel.addEventListener("close", done, { once: true });
      setTimeout(done, LAST_MOST_MS);
    });
  }

  #failed() {
    this.tries += 1;
    if (this.tries === TRIES) {
      this.close();
      this.listener.closed({ code: "no-webrtc", message: "no way to the server was found" });
    } else if (this.#greeting) this.#dial(); // no sound has gone this way yet
    else this.session.drop(); // how much of it came, the server says when the session is resumed
  }

  #hangUp() {
    clearTimeout(this.#timer);
    this.#peer?.close();
    this.#peer = this.#channel = this.#sender = null;
  }
}
