// How often, and after how long, a session that has ended is begun anew.

const TRIES = 3;

export class Patience {
  constructor() {
    this.begin();
  }

  /** Someone starts: nothing is known of the server. */
  begin() {
    this.tries = 0;
    this.wasLive = false;
  }

  /** The server has answered. */
  answered() {
    this.tries = 0;
    this.wasLive = true;
  }

  /**
   * @param {{code: string, retryAfterS?: number}} why the session ended
   * @returns {number | null} whole seconds to wait; null: it is not begun anew
   */
  after({ code, retryAfterS }) {
    const seconds = retryAfterS ?? this.#usual(code);
    return seconds === null || ++this.tries > TRIES ? null : Math.ceil(seconds);
  }

  /**
   * @param {number} seconds @param {(left: number) => void} told each second
   * @param {() => void} act once they have passed
   */
  wait(seconds, told, act) {
    told(seconds);
    this.timer = setTimeout(() => {
      if (seconds > 1) this.wait(seconds - 1, told, act);
      else act();
    }, 1000);
  }

  /** What is waited for is no longer wanted. */
  stop() {
    clearTimeout(this.timer);
  }

  // A voice that was live once is worth waiting for; a server that never answered is not.
  #usual(code) {
    if (code === "lost" || code === "unknown_session") return 1;
    return code === "unreachable" && this.wasLive ? 2 ** (this.tries + 1) : null;
  }
}
