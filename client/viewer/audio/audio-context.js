// An AudioContext of a rate that the server takes.

import { RATES } from "../net/protocol.js";

const FALLBACK = 48000; // for a device of a rate that the server does not take

/** @param {AudioContextLatencyCategory} latencyHint @param {number | null} rate or the device's */
export function makeContext(latencyHint, rate = null) {
  if (rate) return new AudioContext({ latencyHint, sampleRate: rate });
  const context = new AudioContext({ latencyHint });
  const { sampleRate } = context;
  if (sampleRate >= RATES.least && sampleRate <= RATES.most) return context;
  context.close();
  return new AudioContext({ latencyHint, sampleRate: FALLBACK });
}
