// The dial, links and texts: what the controls say, without a page.

import assert from "node:assert/strict";
import test from "node:test";

import { weightsAt } from "../../../client/viewer/ui/dial.js";
import { PRESETS, alike } from "../../../client/viewer/ui/presets.js";
import { emotionFromQuery, linkTo, settingsFrom } from "../../../client/viewer/ui/share.js";
import { levelOf, rms } from "../../../client/viewer/ui/status-panel.js";
import { delayText, lossText } from "../../../client/viewer/ui/status-text.js";
import { random, range } from "./viewer.js";

const sum = (weights) => Object.values(weights).reduce((total, w) => total + w, 0);

for (const intensity of [0, 0.001, 0.333, 1]) {
  test(`the pad's weights sum to an intensity of ${intensity}`, () => {
    const next = random(7);
    for (let k = 0; k < 200; k++) {
      const weights = weightsAt(21 * next() - 7, intensity);
      assert.ok(Object.keys(weights).length <= 2);
      assert.ok(Math.abs(sum(weights) - intensity) < 1e-9);
    }
  });
}

test("every mixture is told from the others", () => {
  assert.ok(PRESETS.length >= 4);
  for (const { weights } of PRESETS) {
    assert.ok(sum(weights) > 0 && sum(weights) <= 1);
    assert.equal(PRESETS.filter((other) => alike(weights, other.weights)).length, 1);
  }
});

test("a link says all settings and nothing of a token", () => {
  const next = random(8);
  const names = ["angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised"];
  const cases = [{ emotion: {}, hop: 3, lookahead: 3, life: 1, media: "socket", dots: false,
    look: null }];
  for (const [hop, lookahead] of [[1, 29], [30, 0], [3, 3], [6, 12]]) {
    const emotion = Object.fromEntries(range(3).map(() =>
      [names[Math.floor(names.length * next())], Math.round(300 * next() + 1) / 1000]));
    const media = next() < 0.5 ? "socket" : "webrtc";
    const life = Math.round(100 * next()) / 100;
    cases.push({ emotion, hop, lookahead, life, media, dots: true, look: "ada & bo" });
  }
  const location = { origin: "http://there", pathname: "/face/",
    search: "?token=secret&ice=stun:a:1&ice=stun:b:2&life=0.3&other=1" };
  for (const settings of cases) {
    const link = linkTo(location, settings);
    assert.deepEqual(settingsFrom(new URL(link).search), settings);
    assert.ok(link.startsWith("http://there/face/?"));
    assert.doesNotMatch(link, /secret|other/);
    assert.ok(link.endsWith("ice=stun%3Aa%3A1&ice=stun%3Ab%3A2"));
  }
});

for (const [query, weights] of [
  ["?emotion=happy", { happy: 1 }],
  ["?emotion=sad:0.25", { sad: 0.25 }],
  ["?emotion=happy:0.9,sad:0.9", { happy: 0.5, sad: 0.5 }],
  ["?emotion=cross:0.5,neutral:0.2,fear:0.1,sad:much,angry:", { fear: 0.1 }],
  ["?emotion=", {}],
  ["", {}],
]) {
  test(`an emotion in the address is read with mercy: ${query}`, () => {
    assert.deepEqual(emotionFromQuery(query), weights);
  });
}

test("delay and loss are told in words", () => {
  assert.deepEqual(
    [
      delayText(null, false), delayText(null, true), delayText(0.31, false),
      delayText(0.62, false), delayText(1.2, false),
      lossText(0, null, 0), lossText(12, "slow_reader", 0), lossText(1, "overload", 0),
      lossText(3, "a new reason", 0), lossText(3, "slow_reader", 0.84),
    ],
    [
      ["calm", "Shown once you speak"],
      ["calm", "In step with the file"],
      ["good", "0.3 s behind your voice – good"],
      ["warn", "0.6 s behind your voice – a bit late"],
      ["bad", "1.2 s behind your voice – late"],
      ["calm", "None skipped"],
      ["warn", "12 pictures skipped: the network is slow"],
      ["warn", "1 picture skipped: the server has too much to do"],
      ["warn", "3 pictures skipped"],
      ["bad", "0.8 s of your voice left out: the network is slow"],
    ],
  );
});

test("loudness fills the meter from -54 to -6 dB", () => {
  assert.equal(levelOf(0), 0);
  assert.equal(levelOf(1), 1);
  assert.ok(Math.abs(levelOf(10 ** (-30 / 20)) - 0.5) < 1e-9);
  assert.ok(Math.abs(rms(Float32Array.of(3, -4, 3, -4, 9), 0, 4) - Math.sqrt(12.5)) < 1e-6);
});
