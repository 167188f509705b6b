// The page's settings as a link: written, and read when the page is opened by it.

import { EMOTIONS, windowFromQuery, lifeFromQuery } from "../net/protocol.js";

const KEPT = ["ice"]; // of the page's own address. Never the token.
const COPIED_MS = 2500; // how long it says so
const USUAL = { hop: 3, lookahead: 3, life: 1 };

/**
 * `?emotion=happy:0.6,sad:0.2` of an address; what is no emotion or no number is left out, and
 * more than 1 in all is scaled down to 1.
 */
export function emotionFromQuery(search) {
  const weights = {};
  for (const part of (new URLSearchParams(search).get("emotion") ?? "").split(",")) {
    const [name, number] = part.split(":").map((text) => text.trim());
    const weight = number === undefined ? 1 : /^[0-9.]+$/.test(number) ? Number(number) : NaN;
    if (EMOTIONS.includes(name) && name !== "neutral" && weight > 0) {
      weights[name] = Math.min(1, weight);
    }
  }
  const sum = Object.values(weights).reduce((total, weight) => total + weight, 0);
  if (sum > 1) for (const name of Object.keys(weights)) weights[name] /= sum;
  return weights;
}

/** All that an address says of the settings. @param {string} search */
export function settingsFrom(search) {
  const query = new URLSearchParams(search);
  return {
    emotion: emotionFromQuery(search),
    ...windowFromQuery(search),
    life: lifeFromQuery(search),
    media: query.get("media") === "webrtc" ? "webrtc" : "socket",
    dots: query.get("dots") === "1",
    look: query.get("look"),
  };
}

/** The address that opens the page with these settings; what is usual is left out. */
export function linkTo(location, { emotion, media, dots, look, ...numbers }) {
  const query = [];
  const active = Object.entries(emotion).filter(([, weight]) => weight > 0);
  // Written by hand: URLSearchParams would make the colons and commas unreadable.
  if (active.length > 0) query.push(`emotion=${active.map(([n, w]) => `${n}:${w}`).join(",")}`);
  for (const [name, usual] of Object.entries(USUAL)) {
    if (numbers[name] !== usual) query.push(`${name}=${numbers[name]}`);
  }
  if (media === "webrtc") query.push("media=webrtc");
  if (dots) query.push("dots=1");
  if (look) query.push(`look=${encodeURIComponent(look)}`);
  const own = new URLSearchParams(location.search);
  for (const name of KEPT) {
    for (const value of own.getAll(name)) query.push(`${name}=${encodeURIComponent(value)}`);
  }
  const path = `${location.origin}${location.pathname}`;
  return query.length > 0 ? `${path}?${query.join("&")}` : path;
}

let timer = 0;

/** Puts `link` on the clipboard, or where the browser does not let it, into a field to copy. */
export async function copyLink(link, { button, words, place, field }) {
  const show = (done) => {
    words.textContent = done ? "Copied" : "Copy link";
    button.classList.toggle("done", done);
  };
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    field.value = link;
    place.hidden = false;
    field.focus();
    field.select();
    place.scrollIntoView({ block: "nearest" });
    return;
  }
  place.hidden = true;
  show(true);
  clearTimeout(timer);
  timer = setTimeout(() => show(false), COPIED_MS);
}
