// What the tests of the page's modules share.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export const VIEWER = new URL("../../../client/viewer/", import.meta.url);

/** A JSON file beside the tests, or of the page. */
export const json = (path, base = import.meta.url) =>
  JSON.parse(readFileSync(new URL(path, base), "utf8"));

/** Numbers that look random and are always the same: 0..1. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** From a normal distribution. */
export const normal = (next) =>
  Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());

export const range = (count) => Array.from({ length: count }, (_, i) => i);

export const near = (value, target, within) =>
  assert.ok(Math.abs(value - target) <= within, `${value} is not ${target} ± ${within}`);
