// What the page writes into files and reads from them.

import assert from "node:assert/strict";
import test from "node:test";

import { NEUTRAL } from "../../../client/viewer/face/landmarks.js";
import { FrameBuffer } from "../../../client/viewer/net/playout.js";
import { headerOf } from "../../../client/viewer/photo/picture-header.js";
import { FramesFile } from "../../../client/viewer/ui/frames-file.js";
import { withDuration } from "../../../client/viewer/ui/webm-duration.js";
import { normal, random, range } from "./viewer.js";

function filled(frames) {
  const buffer = new FrameBuffer(NEUTRAL);
  frames.forEach((frame, n) => frame && buffer.push(n, [frame]));
  return buffer;
}

test("the frames in a file are those of the stream to the bit", async () => {
  const next = random(9);
  const values = range(10).map(() =>
    Float32Array.from({ length: 136 }, () => 128 + 40 * normal(next)));
  const file = new FramesFile();
  const frames = filled(values.map((frame, n) => (n === 5 ? null : frame))); // dropped
  for (let i = 0; i < 12; i++) file.reached(frames, i * 0.75, i / 40, { sad: 0.5 });
  const later = filled([values[0]]);
  file.reached(later, 0, 2.0, {});
  file.reached(later, 0, 2.1, {});
  const rows = (await file.blob().text()).trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(rows.map(({ n }) => n), [0, 1, 2, 3, 4, 6, 7, 8, 60]);
  rows.forEach(({ n, t, points }) => {
    assert.equal(t, n / 30);
    assert.deepEqual(Float32Array.from(points.flat()), values[n % 60]);
  });
  assert.deepEqual(rows[0].emotion, { sad: 0.5 });
});

// EBML: an id, a size in one byte, what is in it.
const element = (id, body) => [...id, 0x80 | body.length, ...body];
const webm = (info) => new Blob([Uint8Array.from([
  ...element([0x1a, 0x45, 0xdf, 0xa3], [1, 2, 3]), 0x18, 0x53, 0x80, 0x67, 0xff,
  ...element([0x15, 0x49, 0xa9, 0x66], info), ...range(40),
])], { type: "video/webm" });
const SCALE = element([0x2a, 0xd7, 0xb1], [0x0f, 0x42, 0x40]);

test("a recorded video is given its duration and is else the same", async () => {
  const before = new Uint8Array(await webm(SCALE).arrayBuffer());
  const video = await withDuration(webm(SCALE), 2.5);
  assert.equal(video.type, "video/webm");
  const bytes = new Uint8Array(await video.arrayBuffer());
  const view = new DataView(bytes.buffer);
  const info = 8 + 5 + 4; // after its id
  assert.equal(view.getBigUint64(info), (1n << 56n) + BigInt(SCALE.length + 11));
  const duration = info + 8 + SCALE.length;
  assert.deepEqual([...bytes.subarray(duration, duration + 3)], [0x44, 0x89, 0x88]);
  assert.equal(view.getFloat64(duration + 3), 2500);
  assert.deepEqual(bytes.subarray(0, info), before.subarray(0, info));
  assert.deepEqual(bytes.subarray(-40), before.subarray(-40));
});

test("a video that has its duration, or is no WebM, stays as it is", async () => {
  const timed = webm([...SCALE, ...element([0x44, 0x89], range(8))]);
  assert.equal(await withDuration(timed, 2.5), timed);
  const other = new Blob(["no video"]);
  assert.equal(await withDuration(other, 2.5), other);
});

const u16 = (value) => [value >> 8, value & 0xff];
const text = (characters) => [...characters].map((c) => c.charCodeAt(0));
const webp = (chunk, ...body) =>
  [...text("RIFF"), 0, 0, 0, 0, ...text("WEBP"), ...text(chunk), 0, 0, 0, 0, ...body, ...range(9)];
const PNG = [0x89, ...text("PNG\r\n\x1a\n"), 0, 0, 0, 13, ...text("IHDR"), 0, 0, ...u16(640), 0, 0,
  ...u16(480)];
const JPEG = [0xff, 0xd8, 0xff, 0xe0, ...u16(4), 7, 7, 0xff, 0xff, 0xc4, ...u16(3), 7,
  0xff, 0xc2, ...u16(17), 8, ...u16(480), ...u16(640), 3];

for (const [name, kind, bytes, width = 640, height = 480] of [
  ["PNG", "png", PNG],
  ["JPEG, after other segments", "jpeg", JPEG],
  ["JPEG that is cut off", "jpeg", JPEG.slice(0, 14), 0, 0],
  ["extended WebP", "webp", webp("VP8X", 0, 0, 0, 0, 0x7f, 2, 0, 0xdf, 1, 0)],
  ["lossless WebP", "webp", webp("VP8L", 0x2f, 0x7f, 0xc2, 0x77, 0, 0, 0, 0, 0, 0)],
  ["lossy WebP", "webp", webp("VP8 ", 0, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1)],
]) {
  test(`the size of a picture is read before it is decoded: ${name}`, () => {
    assert.deepEqual(headerOf(Uint8Array.from(bytes)), { kind, width, height });
  });
}

test("what is no picture is none", () => {
  for (const bytes of [[], text("GIF89a"), text("no picture\n".repeat(40)), PNG.slice(0, 20)]) {
    assert.equal(headerOf(Uint8Array.from(bytes)), null);
  }
});
