// When silence is sent and when a frame is shown: arithmetic on times that are passed in.

import assert from "node:assert/strict";
import test from "node:test";

import { INNER_LOWER, NEUTRAL, lipGap } from "../../../client/viewer/face/landmarks.js";
import {
  CaptureClock, Delay, FrameBuffer, SteadyClock,
} from "../../../client/viewer/net/playout.js";
import { SilenceOwed } from "../../../client/viewer/net/silence.js";
import { near } from "./viewer.js";

const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;

for (const steps of [[0.05], [0.05, 0.3, 0.01], [0.7]]) {
  test(`silence is owed for the time that passed, up to its most: steps of ${steps} s`, () => {
    const [rate, frames] = [44100, 6];
    const most = frames / 30 + 0.4;
    const owed = new SilenceOwed(rate, frames);
    owed.audio(9.98, 10);
    let total = 0;
    for (let i = 0, t = 10; t < 14; i++) {
      const samples = owed.due((t += steps[i % steps.length]));
      assert.ok(samples === 0 || t - 10 >= 0.1);
      total += samples;
      assert.ok(total <= Math.round(Math.min(t - 10, most) * rate) + 1);
    }
    assert.equal(total, Math.round(most * rate));
  });
}

for (const share of [0.05, 0.2]) {
  test(`a microphone that loses ${share} of its samples leaves the face no later for good`, () => {
    const rate = 48000;
    const clock = new CaptureClock(rate);
    const delay = new Delay(0.27);
    const drawn = [];
    let end = 0; // of the samples that came
    let newest = -1;
    for (let k = 1; k * 0.02 < 30; k++) {
      const time = k * 0.02 + 0.004 * ((k * 7) % 5); // chunks come up to 16 ms late
      const losing = time > 10 && time < 20;
      end += 0.02 * rate * (losing ? 1 - share : 1);
      delay.moved(clock.chunk(end, time));
      while (end >= ((newest + 7) * rate) / 30) { // three frames, of six frames' worth
        newest += 3;
        delay.arrived(time + 0.01 - clock.spoken(newest - 2));
      }
      const position = (time - delay.at(time) - clock.zero) * 30;
      drawn.push({ time, ahead: newest + 1 - position, behind: time - position / 30 });
    }
    const between = (first, last) => drawn.filter(({ time }) => time > first && time < last);
    for (const { ahead } of [...between(3, 10), ...between(24, 30)]) {
      assert.ok(ahead >= 0, "a frame is there when it is drawn");
    }
    const late = mean(between(3, 10).map(({ behind }) => behind));
    assert.ok(late < 0.35);
    near(mean(between(28, 30).map(({ behind }) => behind)), late + share * 10, 0.05);
  });
}

test("when frames stop coming the mouth eases shut", () => {
  const open = NEUTRAL.slice();
  for (const i of INNER_LOWER) open[2 * i + 1] += 8;
  const frames = new FrameBuffer(NEUTRAL);
  for (let n = 0; n < 30; n++) if (n < 10 || n > 14) frames.push(n, [open]);
  const out = new Float32Array(136);
  const gaps = [];
  for (let i = 0; i < 180; i++) {
    frames.pose(i / 2, i / 60, out);
    gaps.push(lipGap(out));
  }
  near(gaps[30], 8, 0.01);
  for (const gap of gaps.slice(45, 50)) near(gap, 8, 0.01); // a hole of five frames is bridged
  near(gaps.at(-1), 0, 0.01);
  for (let i = 61; i < gaps.length; i++) near(gaps[i], gaps[i - 1], 1); // eased, not dropped
});

test("a device's clock that moves in steps is read smoothly", () => {
  const clock = new SteadyClock();
  let before = clock.read(0, 0, true);
  for (let k = 1; k < 200; k++) {
    const time = k / 60;
    const read = clock.read(Math.floor(time / 0.04) * 0.04, time, true);
    assert.ok(read > before && read - before < 0.03);
    near(read, time, 0.05);
    before = read;
  }
  assert.equal(clock.read(9, 9, true), 9); // it was moved
});
