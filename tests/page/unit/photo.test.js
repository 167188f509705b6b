// A photo's face: whether it can be taken, how frames are brought to it, and its mesh.

import assert from "node:assert/strict";
import test from "node:test";

import {
  NEUTRAL, axesOf, parted, retargeting,
} from "../../../client/viewer/face/landmarks.js";
import { checkPose, onlyFace } from "../../../client/viewer/photo/detector.js";
import { FaceMesh } from "../../../client/viewer/photo/face-mesh.js";
import { PLACED, TABLE, areasOf, leastOf } from "./faces.js";
import { json, normal, random, range } from "./viewer.js";

const codeOf = (act) => {
  try {
    return act();
  } catch (error) {
    return error.code;
  }
};

test("a head that is turned, tilted or small is told from its points", () => {
  const moved = (by) => PLACED.map((v, i) => v + by(i >> 1, i % 2, PLACED));
  const faces = [
    PLACED,
    PLACED.map((v) => 3 * v),
    moved((i, axis) => (i >= 27 && i < 36 && axis === 0 ? 40 : 0)),
    moved((i, axis) => (i >= 9 && i < 17 && axis === 0 ? -110 : 0)),
    PLACED.map((v, i, p) => (i % 2 ? 0.8 * p[i - 1] + 0.6 * v : 0.6 * v - 0.8 * p[i + 1] + 600)),
    PLACED.map((v) => 0.2 * v),
  ];
  assert.deepEqual(
    faces.map((points) => codeOf(() => checkPose(points) ?? "good")),
    ["good", "good", "photo-turned", "photo-turned", "photo-turned", "photo-small-face"],
  );
});

test("one face found twice and one far behind are one face", () => {
  const box = (x, y, side) => ({ x, y, width: side, height: side });
  const only = (...boxes) => codeOf(() => onlyFace(boxes).x);
  assert.equal(only(box(100, 100, 300)), 100);
  assert.equal(only(box(120, 110, 290), box(100, 100, 300)), 100);
  assert.equal(only(box(100, 100, 300), box(600, 50, 60)), 100);
  assert.equal(only(box(100, 100, 300), box(500, 50, 200)), "photo-many-faces");
  assert.equal(only(), "photo-no-face");
});

test("a frame is brought to another face as the server brings it", () => {
  const { from, to, frames, brought } = json("wire.json").retargeting;
  const bring = retargeting(Float32Array.from(from), Float32Array.from(to));
  frames.forEach((frame, k) => bring(Float32Array.from(frame)).forEach((v, i) =>
    assert.ok(Math.abs(v - brought[k][i]) < 0.02)));
});

// ---- the mesh

const chin = (mesh, points) => // how far the chin goes of the way that it should
  (mesh.out[133] - mesh.place[133]) / (points[133] - mesh.seen[133]);

test("no triangle turns over, whatever the landmarks do", () => {
  const mesh = new FaceMesh(TABLE, PLACED);
  assert.equal(mesh.guarded.length, mesh.triangles.length / 3);
  const next = random(4);
  for (let k = 0; k < 20; k++) {
    assert.ok(leastOf(mesh, PLACED.map((v) => v + 12 * normal(next))) > 0);
  }
  for (const gap of [0, 10, 20, 40]) assert.ok(leastOf(mesh, parted(PLACED, gap)) > 0);
});

test("the mesh has holes for the mouth and the eyes alone, and stands still around the head", () => {
  const mesh = new FaceMesh(TABLE, PLACED);
  const area = (indices) => Math.abs(indices.reduce((sum, i, k) => {
    const j = indices[(k + 1) % indices.length];
    const p = mesh.place;
    return sum + p[2 * i] * p[2 * j + 1] - p[2 * j] * p[2 * i + 1];
  }, 0) / 2);
  const open = ["inner", "right", "left"]
    .map((name) => area([...mesh.curve(`${name}Top`), ...mesh.curve(`${name}Low`)]))
    .reduce((sum, v) => sum + v);
  const still = range(mesh.controls).slice(mesh.moving);
  const covered = areasOf(mesh, mesh.place).reduce((sum, v) => sum + v);
  assert.ok(Math.abs((covered + open) / area(still.slice(32)) - 1) < 1e-6);
  const { size, at } = mesh.axes;
  const [x, y] = at(0, 0.25);
  for (const i of still.slice(32)) { // beyond the most of a photo that is shown, 4.6 x 5.6 sizes
    const far = Math.hypot(mesh.place[2 * i] - x, mesh.place[2 * i + 1] - y);
    assert.ok(far > 1.2 * Math.hypot(4.6, 5.6) * size);
  }
  const out = mesh.deform(parted(PLACED, 40));
  for (const v of still.flatMap((i) => [2 * i, 2 * i + 1])) assert.equal(out[v], mesh.texture[v]);
  mesh.deform(PLACED).forEach((v, i) => assert.ok(Math.abs(v - mesh.place[i]) < 1e-3));
});

test("a face that sways as it speaks is not held back", () => {
  const mesh = new FaceMesh(TABLE, PLACED);
  const { size, middle } = mesh.axes;
  for (let k = 0; k < 60; k++) {
    const points = parted(PLACED, (0.11 + 0.08 * Math.sin(1.3 * k)) * size);
    const [x, y, roll] =
      [0.01 * Math.sin(k / 3), 0.007 * Math.cos(k / 5), 0.026 * Math.sin(k / 7)];
    for (let i = 0; i < 136; i += 2) {
      const [u, v] = [points[i] - middle[0], points[i + 1] - middle[1]];
      points[i] += x * size - roll * v;
      points[i + 1] += y * size + roll * u;
    }
    assert.ok(leastOf(mesh, points) > 0);
    assert.ok(Math.abs(chin(mesh, points) - 1) < 0.05);
  }
});

test("points on one line or in one place do not hold the face", () => {
  for (const scale of range(21).map((k) => 3 + k / 40)) { // its flat chin, rounded in many ways
    const seen = NEUTRAL.map((v, i) => scale * (v - 128) + (i % 2 ? 470 : 512));
    const mesh = new FaceMesh(TABLE, seen);
    const points = parted(seen, 30);
    mesh.deform(points);
    assert.ok(Math.abs(chin(mesh, points) - 1) < 0.05);
  }
  const pinned = PLACED.map((v, i) => (i % 2 ? v : Math.max(v, PLACED[0] + 20)));
  const mesh = new FaceMesh(TABLE, pinned); // by the edge of its photo
  assert.ok(leastOf(mesh, parted(pinned, 0.15 * axesOf(pinned).size)) > 0);
});
