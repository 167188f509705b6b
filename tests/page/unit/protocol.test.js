// The wire as the page writes and reads it; test_units.py holds wire.json to kfusion.wire.

import assert from "node:assert/strict";
import test from "node:test";

import * as protocol from "../../../client/viewer/net/protocol.js";
import { PRESETS } from "../../../client/viewer/ui/presets.js";
import { json, random, range } from "./viewer.js";

const wire = json("wire.json");
const bytesOf = (base64) => Uint8Array.from(Buffer.from(base64, "base64"));

test("frames are read as the server writes them", () => {
  const { bytes, n, clock } = wire.frames;
  const read = protocol.parseFrames(bytesOf(bytes).buffer);
  assert.deepEqual([read.kind, read.n, read.count, read.clock], [1, n, 3, clock]);
  read.frames.forEach((frame, k) => assert.deepEqual(
    [...frame], range(136).map((i) => 100 * k + i + 0.5)));
});

test("bytes that are no frames are neither read nor choked on", () => {
  const next = random(6);
  for (let size = 0; size < 200; size += 7) {
    const rubbish = Uint8Array.from({ length: size }, () => 256 * next());
    assert.equal(protocol.parseFrames(rubbish.buffer), null);
  }
  assert.equal(protocol.parseFrames(bytesOf(wire.frames.bytes).slice(0, -4).buffer), null);
});

test("the page's messages are those that the server takes", () => {
  const options = { rate: 44100, mode: "live", hop: 3, lookahead: 3, emotion: { sad: 0.4 } };
  const points = range(68).map((i) => [2 * i, 3 * i + 1]);
  const moved = points.map(([x, y]) => [x + 1, y]);
  assert.deepEqual(JSON.parse(JSON.stringify([
    protocol.start(options), protocol.start({ ...options, mode: "file" }),
    protocol.start({ ...options, identity: { points } }),
    protocol.resume("a token", 17), protocol.emotion({ happy: 0.3, contempt: 0.7 }),
    protocol.end(), ...protocol.silences(150 * 44100, 44100),
    ...[{ points }, { points: moved }, null].map(protocol.identity),
    ...PRESETS.map(({ weights }) => protocol.emotion(weights)),
  ])), wire.messages);
});

test("text of the server that is no message is ignored", () => {
  assert.deepEqual(protocol.parseText('{"type": "end"}'), { type: "end" });
  for (const text of ["", "nonsense", "null", "[]", '{"type": 3}']) {
    assert.equal(protocol.parseText(text), null);
  }
});

test("samples are clipped to 16 bits", () => {
  const pcm = new Int16Array(protocol.s16le(Float32Array.of(0, 1, -1, 2, -2, 0.5)));
  assert.deepEqual([...pcm], [0, 32767, -32767, 32767, -32767, 16384]);
});

test("the address says where to stream, with its token and servers of its own", () => {
  const location = { protocol: "https:", host: "there:1", search: "?token=a b&ice=stun:x:1&ice=y" };
  assert.equal(protocol.streamUrl(location), "wss://there:1/v1/stream?token=a%20b");
  assert.deepEqual(protocol.iceServersFromQuery(location.search), [{ urls: "stun:x:1" }]);
});

test("a window or liveliness that is not allowed falls back", () => {
  const windows = { "": [3, 3], "?hop=5&lookahead=2": [5, 2], "?hop=4&lookahead=x": [3, 3],
    "?hop=30&lookahead=9": [30, 0], "?hop=15&lookahead=15": [15, 15] };
  for (const [search, [hop, lookahead]] of Object.entries(windows)) {
    assert.deepEqual(protocol.windowFromQuery(search), { hop, lookahead });
  }
  const lives = { "": 1, "?life=0.4": 0.4, "?life=7": 1, "?life=none": 1 };
  for (const [search, life] of Object.entries(lives)) {
    assert.equal(protocol.lifeFromQuery(search), life);
  }
});
