// One session with the server over a WebSocket: opened, kept through lost connections, ended.
// It moves messages only; what they mean for the face is for whoever made it. Another transport
// needs the same few verbs (audio, silence, send, end, close) and the same listener.

import * as protocol from "./protocol.js";

const RETRY_FIRST_S = 0.25;
const RETRY_MOST_S = 4;
const CONNECT_TRIES = 4;
const ANSWER_MOST_S = 8; // to the first message
const UNHEARD_MOST_S = 10; // sound that nothing came back for: nobody is there
const LOOK_AGAIN_S = 1; // of these, for a page that stood still to find what came meanwhile
const LOST = 4000; // the code of a connection that is given up; with 1000 the server would forget

/**
 * @typedef {object} Listener
 * @property {(ready: any, resumed: boolean) => void} ready
 * @property {(n: number, frames: Float32Array[]) => void} frames
 * @property {(message: any) => void} [message] every other message of the server
 * @property {(waitS: number) => void} lost connection lost; tries again after waitS
 * @property {(why: {code: string, message: string, retryAfterS?: number}) => void} closed
 *   for good; code "end" when all went well, "unreachable" when nobody answered
 */

export class Session {
  /** @param {{url: string, start: object, listener: Listener}} options `start`: the message */
  constructor({ url, start, listener }) {
    Object.assign(this, { url, start, listener });
    this.rate = start.audio.rate;
    this.ready = null;
    this.nextFrame = 0; // the first frame that has not come
    this.open = false;
    this.over = false;
    this.sentBytes = 0;
    this.dropped = 0;
    this.keepsTime = false; // the server counts what it is sent, silence for what was missed too
    this.#connect();
  }

  #socket = null;
  #timer = 0;
  #tries = 0;
  #lostAt = null;
  #fatal = null;
  #overdue = 0;
  #ended = false;

  /** Bytes that the browser has taken but not yet sent. */
  get backlog() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** @param {ArrayBuffer} pcm @returns {boolean} whether it was sent */
  audio(pcm) {
    if (this.open) {
      this.#socket.send(pcm);
      this.sentBytes += pcm.byteLength;
      this.#expect();
    }
    return this.open;
  }

  /** @param {number} samples @returns {boolean} whether it was sent */
  silence(samples) {
    const sent = protocol.silences(samples, this.rate).every((message) => this.send(message));
    if (sent && samples > 0) this.#expect();
    return sent;
  }

  /** @param {object} message @returns {boolean} whether it was sent */
  send(message) {
    if (this.open) this.#socket.send(JSON.stringify(message));
    return this.open;
  }

  /** No more audio: what is still to come comes, then the server closes. */
  end() {
    if (!this.send(protocol.end())) return this.close();
    this.#ended = true;
    this.#expect();
  }

  /** Something came from the server, by whatever way. */
  answered() {
    clearTimeout(this.#overdue);
    this.#overdue = 0;
    if (this.#ended) this.#expect(); // until the server closes
  }

  /** The connection is taken for lost, whatever the browser makes of it. */
  drop() {
    if (this.over || !this.#socket) return;
    this.#socket.close(LOST); // which may take minutes to be over: nobody listens any more
    this.#closed(1006, "");
  }

  /** Goes at once; nothing more is told to the listener. */
  close() {
    this.over = true;
    this.open = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#overdue);
    this.#socket?.close(1000);
  }

  #connect() {
    const socket = new WebSocket(this.url, protocol.SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#fatal = null;
    const mine = (act) => (event) => this.#socket === socket && !this.over && act(event);
    const giveUp = setTimeout(mine(() => this.drop()), ANSWER_MOST_S * 1000);
    socket.onopen = mine(() => {
      const token = this.ready?.resume;
      const first = token ? protocol.resume(token, this.nextFrame) : this.start;
      socket.send(JSON.stringify(first));
    });
    socket.onmessage = mine(({ data }) => {
      this.answered();
      if (data instanceof ArrayBuffer) return this.#binary(data);
      const message = protocol.parseText(data);
      if (message?.type === "ready") clearTimeout(giveUp);
      if (message) this.#text(message);
    });
    socket.onclose = mine(({ code, reason }) => {
      clearTimeout(giveUp);
      this.#closed(code, reason);
    });
  }

  #binary(buffer) {
    const batch = protocol.parseFrames(buffer);
    if (batch?.kind !== protocol.KIND.points) return;
    this.nextFrame = Math.max(this.nextFrame, batch.n + batch.count);
    this.listener.frames(batch.n, batch.frames);
  }

  #text(message) {
    if (message.type === "ready") {
      const resumed = this.ready !== null;
      this.ready = message;
      this.open = true;
      this.#tries = 0;
      this.#lostAt = null;
      this.listener.ready(message, resumed);
      return;
    }
    if (message.type === "dropped") {
      this.dropped += message.count;
      this.nextFrame = Math.max(this.nextFrame, message.first + message.count);
    }
    if (message.type === "error" && message.fatal) {
      const refused = this.ready && !this.open && message.code !== "busy"; // the resumption
      this.#fatal = { code: refused ? "lost" : message.code, message: message.message };
      if (message.retry_after_s !== undefined) this.#fatal.retryAfterS = message.retry_after_s;
    }
    if (message.type === "end") this.#fatal = { code: "end", message: "" };
    this.listener.message?.(message);
  }

  // All sound is answered: by frames, or by why there are none.
  #expect() {
    this.#overdue ||= setTimeout(() => {
      this.#overdue = setTimeout(() => this.drop(), LOOK_AGAIN_S * 1000);
    }, (UNHEARD_MOST_S - LOOK_AGAIN_S) * 1000);
  }

  #closed(code, reason) {
    this.open = this.#ended = false;
    this.#socket = null;
    this.answered();
    if (code === 1013 && !this.#fatal) {
      this.#fatal = { code: "busy", message: "", retryAfterS: Number(reason) || 5 };
    }
    if (this.#fatal) return this.#finish(this.#fatal);
    const now = performance.now() / 1000;
    this.#lostAt ??= now;
    this.#tries += 1;
    const wait = Math.min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** (this.#tries - 1));
    const keptS = this.ready?.limits?.resume_s ?? 30;
    const hopeless = this.ready ? now + wait - this.#lostAt > keptS : this.#tries >= CONNECT_TRIES;
    if (hopeless) {
      const lost = this.ready ? "lost" : "unreachable";
      return this.#finish({ code: lost, message: "the server does not answer" });
    }
    this.listener.lost(wait);
    this.#timer = setTimeout(() => this.#connect(), wait * 1000);
  }

  #finish(why) {
    this.over = true;
    this.listener.closed(why);
  }
}
