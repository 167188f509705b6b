// The record button, the time beside it, and the links to what was recorded.

const SIZES = [[1e6, "MB"], [1e3, "kB"]];

/** @param {number} seconds @returns {string} minutes and seconds, as 1:05 */
function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** @param {Date} date @returns {string} as 2026-05-01-134502, for names of files */
function stamp(date) {
  const two = (n) => String(n).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

function size(bytes) {
  const [unit, name] = SIZES.find(([least]) => bytes >= least) ?? SIZES.at(-1);
  return `${(bytes / unit).toFixed(1)} ${name}`;
}

export class RecordControl {
  /** `parts`: button, words, what, time, takes, summary, links; `act`: {start(), stop()}. */
  constructor(parts, act) {
    Object.assign(this, parts);
    this.on = false;
    this.urls = [];
    this.button.addEventListener("click", () => {
      if (this.on) return act.stop();
      this.#begin();
      act.start();
    });
  }

  /** @param {number} seconds recorded so far */
  show(seconds) {
    const text = clock(seconds);
    if (this.on && this.time.textContent !== text) this.time.textContent = text;
  }

  /** @param {import("./recording.js").Recorded} recorded */
  done({ seconds, cut, video, ending, frames, count }) {
    this.#press(false);
    this.time.textContent = "";
    const most = `Stopped at ${clock(seconds)}: a page can keep no more.`;
    const recorded = `Recorded ${clock(seconds)}.`;
    const noVideo = video ? "" : " This browser records no video.";
    const noFrames = count > 0 ? "" : " Nothing spoke, so there are no frames.";
    this.summary.textContent = `${cut ? most : recorded}${noVideo}${noFrames}`;
    const name = `kfusion-${stamp(new Date())}`;
    if (video) this.#link("Video", `${name}.${ending}`, video, size(video.size));
    if (count > 0) this.#link("Frames", `${name}.jsonl`, frames, `${count} lines`);
    this.takes.hidden = false;
    this.takes.scrollIntoView({ block: "nearest" });
  }

  #begin() {
    this.#press(true);
    this.time.textContent = clock(0);
    this.takes.hidden = true;
    this.links.replaceChildren();
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  }

  #press(on) {
    this.on = on;
    this.button.setAttribute("aria-pressed", String(on));
    this.words.textContent = on ? "Stop" : "Record";
    this.what.hidden = !on;
  }

  #link(what, name, blob, details) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    this.urls.push(link.href);
    link.download = name;
    link.className = "secondary";
    link.textContent = `Save ${what.toLowerCase()}`;
    link.title = name;
    const note = document.createElement("span");
    note.textContent = details;
    link.append(" ", note);
    const item = document.createElement("li");
    item.append(link);
    this.links.append(item);
  }
}
