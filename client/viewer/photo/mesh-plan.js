// The plan of the mesh that a photo is warped by: triangles over the 68 points, the head around
// them and the picture's edge, with holes for the mouth and the eyes; and how far each vertex
// follows the landmarks. Made once for a photo.
//
// It is triangulated with mouth and eyes opened wide, so that lips that touch in the photo are two
// edges of a hole. What lies between the landmarks moves as a membrane held by them would
// (harmonic weights).

import { delaunay } from "./delaunay.js";
import {
  BROWS, INNER_LOWER, INNER_UPPER, JAW, OPEN_MOUTH, axesOf, lipGap, parted,
} from "../face/landmarks.js";
import { harmonic } from "./membrane.js";

/** Curves of landmarks with their ends, and into how many pieces each step of them is cut. */
const CHAINS = {
  jaw: [JAW, 2],
  outerTop: [[48, 49, 50, 51, 52, 53, 54], 2],
  outerLow: [[54, 55, 56, 57, 58, 59, 48], 2],
  innerTop: [[60, 61, 62, 63, 64], 4],
  innerLow: [[64, 65, 66, 67, 60], 4],
  rightTop: [[36, 37, 38, 39], 4],
  rightLow: [[39, 40, 41, 36], 4],
  leftTop: [[42, 43, 44, 45], 4],
  leftLow: [[45, 46, 47, 42], 4],
};
/** Which landmarks the lids of each eye are. */
export const LIDS = [
  { corners: [36, 39], top: [37, 38], low: [41, 40] },
  { corners: [42, 45], top: [43, 44], low: [47, 46] },
];
const CREASES = [
  [[36, 17], [37, 18], [37, 19], [38, 20], [39, 21]],
  [[42, 22], [43, 23], [43, 24], [44, 25], [45, 26]],
];
const CREASE = 0.45; // of the way from the lid to the brow
const FOLDS = 0.1; // of the lid's movement that the crease makes,
const LIFTS = 0.4; // and of the brow's
const MOUTH_OPEN = 0.24; // inter-ocular distances, where the mesh is triangulated
const EYE_OPEN = 0.13;
const RIM = 0.028; // the lids' edge lies so far outside the landmarks, for they mark the eyeball
const CORNER = 0.02; // and so do the corners of the eyes
const LIP_RIM = 0.014; // and that of lips which are open in the photo: no teeth on the lips
const GRID = 0.15; // between free vertices
const RING = { across: 1.5, up: 1.85, down: 1.95 }; // outside it the picture stands still

export class MeshPlan {
  /**
   * @param {ArrayLike<number>} seen (136,) the landmarks in the photo
   * @param {number} width of the photo @param {number} height
   */
  constructor(seen, width, height) {
    this.seen = Float64Array.from(seen);
    this.axes = axesOf(this.seen);
    this.place = Array.from(this.seen); // of each vertex in the photo
    this.rims = LIDS.map((lids) => this.#rim(lids));
    this.lips = lipGap(this.seen) > OPEN_MOUTH * this.axes.size
      ? this.#offset(INNER_UPPER, INNER_LOWER, LIP_RIM * this.axes.size) : [];
    this.#addCurves();
    const wide = opened(this.seen, this.axes);
    this.base = this.#withCuts(wide.map((v, i) => v + this.place[i] - this.seen[i]));
    this.followers = this.#addFollowers(width, height);
    this.moving = this.base.length / 2; // vertices before this one move by themselves,
    this.#addStill(width, height);
    this.controls = this.base.length / 2; // before this one not at all, the others with them
    this.#addFree(width, height);
    this.count = this.base.length / 2;
    separate(this.base, 1e-3 * this.axes.size);
    const triangles = delaunay(this.base);
    this.holes = ["inner", "right", "left"].map((name) => this.#hole(name));
    this.triangles = this.#withoutHoles(triangles);
    this.#placeFree(harmonic(this.base, triangles, this.controls, this.moving));
  }

  /** The vertices along one of the chains, from end to end. @returns {number[]} */
  curve(name) {
    return this.curves[name];
  }

  #hole(name) {
    return [...this.curve(`${name}Top`), ...this.curve(`${name}Low`)];
  }

  #rim(lids) {
    const open = Math.max(0.02 * this.axes.size, gapOf(this.seen, lids, this.axes));
    lids.corners.forEach((i, k) => {
      for (let axis = 0; axis < 2; axis++) {
        this.place[2 * i + axis] += (2 * k - 1) * CORNER * this.axes.size * this.axes.right[axis];
      }
    });
    return { ...lids, open, offsets: this.#offset(lids.top, lids.low, RIM * this.axes.size) };
  }

  // Lays the edges of a hole apart in the photo. @returns [landmark, dx, dy] of each
  #offset(top, low, by) {
    const [dx, dy] = this.axes.down;
    const offsets = [
      ...top.map((i) => [i, -by * dx, -by * dy]), ...low.map((i) => [i, by * dx, by * dy]),
    ];
    for (const [i, x, y] of offsets) {
      this.place[2 * i] += x;
      this.place[2 * i + 1] += y;
    }
    return offsets;
  }

  #addCurves() {
    this.cuts = []; // [vertex, [landmark, share] four times]
    this.curves = {};
    let next = 68;
    for (const [name, [points, pieces]] of Object.entries(CHAINS)) {
      const at = (k) => points[Math.max(0, Math.min(points.length - 1, k))];
      const curve = (this.curves[name] = []);
      for (let k = 0; k + 1 < points.length; k++) {
        curve.push(points[k]);
        for (let piece = 1; piece < pieces; piece++) {
          const shares = catmullRom(piece / pieces);
          this.cuts.push([next, shares.map((share, j) => [at(k - 1 + j), share])]);
          curve.push(next++);
        }
      }
      curve.push(points.at(-1));
    }
    this.place = this.#withCuts(this.place);
  }

  #withCuts(landmarks) {
    const all = Array.from(landmarks);
    for (const [vertex, leaders] of this.cuts) {
      for (let axis = 0; axis < 2; axis++) {
        all[2 * vertex + axis] =
          leaders.reduce((sum, [i, share]) => sum + share * all[2 * i + axis], 0);
      }
    }
    return all;
  }

  // The crease above each lid hardly follows it; above the brows the forehead does, and the crown
  // goes with the head.
  #addFollowers(width, height) {
    const { size, down, at } = this.axes;
    const found = [];
    const add = (x, y, ...leaders) => {
      found.push({ vertex: this.base.length / 2, leaders });
      this.base.push(x, y);
      this.place.push(x, y);
    };
    const margin = 0.06 * size;
    const addInside = (x, y, ...leaders) => {
      const inside = x > margin && x < width - margin && y > margin && y < height - margin;
      if (inside) add(x, y, ...leaders);
    };
    const between = (i, j, share) => [0, 1].map((k) =>
      this.seen[2 * i + k] + share * (this.seen[2 * j + k] - this.seen[2 * i + k]));
    for (const creases of CREASES) {
      creases.forEach(([lid, brow], k) => {
        const here = between(lid, brow, CREASE);
        add(...here, [lid, FOLDS], [brow, LIFTS]);
        if (k + 1 === creases.length) return;
        const [lid2, brow2] = creases[k + 1];
        const next = between(lid2, brow2, CREASE);
        add(
          (here[0] + next[0]) / 2, (here[1] + next[1]) / 2,
          [lid, FOLDS / 2], [lid2, FOLDS / 2], [brow, LIFTS / 2], [brow2, LIFTS / 2],
        );
      });
    }
    for (const i of BROWS.flat()) {
      const rise = 0.24 * size;
      addInside(
        this.seen[2 * i] - rise * down[0], this.seen[2 * i + 1] - rise * down[1], [i, 0.55],
      );
    }
    for (let k = -3; k <= 3; k++) addInside(...at(0.3 * k, -0.86 + 0.03 * k * k));
    return found;
  }

  // The photo's edge, or where the face reaches it, a line beyond both: what moves must not cross
  // what stands still. Out there the photo is as at its edge, and is not shown.
  #addStill(width, height) {
    const { size, at } = this.axes;
    const add = (x, y) => {
      this.base.push(x, y);
      this.place.push(x, y);
    };
    const margin = 0.12 * size;
    const [[left, right], [top, bottom]] = [width, height].map((most, axis) => {
      const face = this.seen.filter((_, i) => i % 2 === axis);
      return [Math.min(0, Math.min(...face) - margin), Math.max(most, Math.max(...face) + margin)];
    });
    const [wide, high] = [right - left, bottom - top];
    const steps = [wide, high]
      .map((n) => Math.max(2, Math.min(12, Math.ceil(n / (0.7 * size)))));
    for (let i = 0; i < steps[0]; i++) {
      add(left + (wide * i) / steps[0], top);
      add(left + (wide * (i + 1)) / steps[0], bottom);
    }
    for (let i = 0; i < steps[1]; i++) {
      add(left, top + (high * (i + 1)) / steps[1]);
      add(right, top + (high * i) / steps[1]);
    }
    for (let k = 0; k < 32; k++) {
      const turn = (2 * Math.PI * (k + 0.5)) / 32;
      const v = Math.sin(turn);
      const [x, y] = at(RING.across * Math.cos(turn), 0.25 + v * (v < 0 ? RING.up : RING.down));
      if (x > margin && x < width - margin && y > margin && y < height - margin) add(x, y);
    }
  }

  #addFree(width, height) {
    const { size, at } = this.axes;
    const step = GRID * size;
    const fixed = this.base.slice();
    const polygons = ["inner", "right", "left"].map((name) => this.#hole(name));
    for (let row = -14; row <= 16; row++) {
      for (let column = -11; column <= 11; column++) {
        const u = GRID * (column + (row % 2 === 0 ? 0 : 0.5));
        const v = 0.25 + GRID * 0.87 * row;
        const far = Math.hypot(u / RING.across, (v - 0.25) / (v < 0.25 ? RING.up : RING.down));
        const [x, y] = at(u, v);
        if (far > 0.93 || x < step / 2 || y < step / 2) continue;
        if (x > width - step / 2 || y > height - step / 2) continue;
        if (nearest(fixed, x, y) < 0.45 * step) continue;
        if (polygons.some((polygon) => inside(this.base, polygon, x, y))) continue;
        this.base.push(x, y);
        this.place.push(x, y);
      }
    }
  }

  #withoutHoles(triangles) {
    const kept = [];
    for (let t = 0; t < triangles.length; t += 3) {
      const [a, b, c] = triangles.slice(t, t + 3);
      const x = (this.base[2 * a] + this.base[2 * b] + this.base[2 * c]) / 3;
      const y = (this.base[2 * a + 1] + this.base[2 * b + 1] + this.base[2 * c + 1]) / 3;
      if (!this.holes.some((hole) => inside(this.base, hole, x, y))) kept.push(a, b, c);
    }
    return Uint16Array.from(kept);
  }

  // The free vertices were laid where mouth and eyes are wide open; in the photo they are not.
  #placeFree(each) {
    const moved = this.place.map((v, i) => v - this.base[i]);
    each((free, control, weight) => {
      for (let k = 0; k < 2; k++) this.place[2 * free + k] += weight * moved[2 * control + k];
    });
    const rows = new Map();
    each((free, control, weight) => {
      if (weight < 0.004) return;
      if (!rows.has(free)) rows.set(free, []);
      rows.get(free).push([control, weight]);
    });
    const [starts, controls, shares] = [[0], [], []];
    for (let free = this.controls; free < this.base.length / 2; free++) {
      for (const [control, weight] of rows.get(free) ?? []) {
        controls.push(control);
        shares.push(weight);
      }
      starts.push(controls.length);
    }
    this.sums = { starts, controls, shares: Float64Array.from(shares) };
  }
}

/** The shares of four points in a row in their curve, at t from the second to the third. */
function catmullRom(t) {
  const [tt, ttt] = [t * t, t * t * t];
  return [
    (-ttt + 2 * tt - t) / 2, (3 * ttt - 5 * tt + 2) / 2, (-3 * ttt + 4 * tt + t) / 2, (ttt - tt) / 2,
  ];
}

/** The landmarks with the mouth and the eyes at least so far open that they are clear holes. */
function opened(seen, axes) {
  const wide = parted(seen, MOUTH_OPEN * axes.size);
  for (const lids of LIDS) {
    const more = Math.max(0, EYE_OPEN * axes.size - gapOf(seen, lids, axes)) / 2;
    for (const [indices, way] of [[lids.top, -more], [lids.low, more]]) {
      for (const i of indices) {
        wide[2 * i] += way * axes.down[0];
        wide[2 * i + 1] += way * axes.down[1];
      }
    }
  }
  return wide;
}

/** How far an eye is open, along the face. */
export function gapOf(points, { top, low }, { down }) {
  let gap = 0;
  for (let k = 0; k < 2; k++) {
    gap += (points[2 * low[k]] - points[2 * top[k]]) * down[0];
    gap += (points[2 * low[k] + 1] - points[2 * top[k] + 1]) * down[1];
  }
  return Math.max(0, gap / 2);
}

// Someone may have drawn one landmark onto another: no two vertices share a place.
function separate(p, least) {
  for (let i = 2; i < p.length; i += 2) {
    for (let j = 0; j < i; j += 2) {
      if (Math.abs(p[i] - p[j]) > least || Math.abs(p[i + 1] - p[j + 1]) > least) continue;
      p[i] += least * (1 + (i % 7));
      p[i + 1] += least * (1 + (i % 5));
    }
  }
}

function nearest(p, x, y) {
  let least = Infinity;
  for (let i = 0; i < p.length; i += 2) {
    least = Math.min(least, (p[i] - x) ** 2 + (p[i + 1] - y) ** 2);
  }
  return Math.sqrt(least);
}

function inside(p, polygon, x, y) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = [p[2 * polygon[i]], p[2 * polygon[i] + 1]];
    const [xj, yj] = [p[2 * polygon[j]], p[2 * polygon[j] + 1]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}
