// How often, and after how long, a session that has ended is opened again.

const TRIES = 3;

export class Retry {
  constructor() {
    this.reset();
  }

  /** The user starts: nothing is known of the server. */
  reset() {
    this.tries = 0;
    this.wasLive = false;
  }

  /** The server has answered. */
  succeeded() {
    this.tries = 0;
    this.wasLive = true;
  }

  /** @returns {number | null} whole seconds to wait after this end of a session; null: no retry */
  delayAfter({ code, retryAfterS }) {
    const seconds = retryAfterS ?? this.#defaultDelay(code);
    return seconds === null || ++this.tries > TRIES ? null : Math.ceil(seconds);
  }

  /** Calls `onSecond(left)` each second and `action` once they have passed. */
  wait(seconds, onSecond, action) {
    onSecond(seconds);
    this.timer = setTimeout(() => {
      if (seconds > 1) this.wait(seconds - 1, onSecond, action);
      else action();
    }, 1000);
  }

  /** Cancels the wait. */
  stop() {
    clearTimeout(this.timer);
  }

  // A voice that was live once is worth waiting for; a server that never answered is not.
  #defaultDelay(code) {
    if (code === "lost" || code === "unknown_session") return 1;
    return code === "unreachable" && this.wasLive ? 2 ** (this.tries + 1) : null;
  }
}
