// The mesh that a photo is warped by. Which vertices there are, their triangles, and how far each
// vertex follows others is the same for every face: face-mesh.json, which the video of
// `python -m client file --photo` reads too (client/video/mesh.py).
//
// The vertices are the 68 landmarks, points between them along curves, points that go with the
// head, a ring around the head and one far outside it which stand still, and free vertices in
// between, which move as a membrane held by the others would (harmonic weights, Pinkall & Polthier
// 1993). The triangles are Delaunay's for the neutral face with its mouth and eyes open, so that
// lips that touch in a photo are two edges of a hole.

import {
  INNER_LOWER, INNER_PAIRS, INNER_UPPER, OPEN_MOUTH, axesOf, below, lipGap, rigidMotion,
} from "../face/landmarks.js";

/** Which landmarks the lids of each eye are. */
const LIDS = [
  { corners: [36, 39], top: [37, 38], low: [41, 40] },
  { corners: [42, 45], top: [43, 44], low: [47, 46] },
];
const RIM = 0.028; // the lids' edge lies so far outside the landmarks, for they mark the eyeball
const CORNER = 0.02; // and so do the corners of the eyes
const LIP_RIM = 0.014; // and that of lips which are open in the photo: no teeth on the lips
const LEAST_AREA = 0.02; // of its area in the photo that a triangle keeps
const LINE = 1e-6; // squared distances between the eyes
const ROUNDS = 12; // of relaxing triangles that turn over

/**
 * @typedef {object} Table shares are flat: vertex, share, vertex, share, ...; `by` is an offset in
 *   the face's axes
 * @property {Record<string, number[]>} curves the vertices of each, from end to end
 * @property {number[][]} cuts shares, of a vertex on a curve
 * @property {{from: number[], by: number[], follows: number[]}[]} head vertices that go with the
 *   head: the shares that place them, and those of the landmarks' own movement that they follow
 * @property {{from: number[], by: number[]}[]} still
 * @property {{from: number[], by: number[]}[]} free
 * @property {number[]} triangles three vertices each
 */

let loading = null;

/** @returns {Promise<Table>} */
export function meshTable() {
  loading ??= fetch(new URL("face-mesh.json", import.meta.url)).then((answer) => answer.json());
  loading.catch(() => (loading = null)); // the next call tries again
  return loading;
}

export class FaceMesh {
  /** @param {Table} table @param {ArrayLike<number>} seen (136,) the landmarks in the photo */
  constructor(table, seen) {
    this.seen = Float64Array.from(seen);
    this.axes = axesOf(this.seen);
    this.curves = table.curves;
    this.place = Array.from(this.seen); // of each vertex in the photo
    this.rims = LIDS.map((lids) => this.#rim(lids));
    this.lips = lipGap(this.seen) > OPEN_MOUTH * this.axes.size
      ? this.#offset(INNER_UPPER, INNER_LOWER, LIP_RIM * this.axes.size) : [];
    this.#addVertices(table);
    this.triangles = Uint16Array.from(table.triangles);
    this.texture = Float32Array.from(this.place);
    this.moved = new Float64Array(2 * this.count);
    this.out = new Float32Array(2 * this.count);
    this.areas = this.#areas(this.texture); // rounded as `out` is
    // Nobody sees that what is hardly more than a line turns over; it would hold the whole face.
    const least = LINE * this.axes.size ** 2;
    this.guarded = Array.from(this.areas.keys()).filter((t) => this.areas[t] > least);
  }

  /** The vertices along one of the curves, from end to end. @returns {number[]} */
  curve(name) {
    return this.curves[name];
  }

  /**
   * Where every vertex is when the landmarks are there.
   * @param {ArrayLike<number>} points (136,) in pixels of the photo
   * @returns {Float32Array} flat; the same array at each call
   */
  deform(points) {
    this.#move(points);
    this.#put(1);
    if (!this.#relax()) for (const share of [0.7, 0.45, 0.2, 0]) {
      this.#put(share);
      if (this.#flipped().length === 0) break;
    }
    return this.out;
  }

  /** How far each eye is shut against the photo, 0..1. */
  closed(points) {
    return this.rims.map((lids) => 1 - Math.min(1, gapOf(points, lids, this.axes) / lids.open));
  }

  // ---- in the photo

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

  #addVertices({ cuts, head, still, free }) {
    const { place, axes: { size, right, down } } = this;
    const add = (shares, [u, v] = [0, 0]) => {
      const [x, y] = sumOf(shares, place);
      place.push(x + size * (u * right[0] + v * down[0]), y + size * (u * right[1] + v * down[1]));
      return place.length / 2 - 1;
    };
    this.cuts = cuts.map((shares) => [add(shares), shares]);
    this.head = head.map(({ from, by, follows }) => [add(from, by), follows]);
    this.moving = place.length / 2; // vertices before this one move by themselves,
    for (const { from, by } of still) add(from, by);
    this.controls = place.length / 2; // before this one not at all, the others with them
    this.free = free.map(({ from, by }) => [add(from, by), from]);
    this.count = place.length / 2;
  }

  #areas(p) {
    const areas = new Float64Array(this.triangles.length / 3);
    for (let t = 0; t < areas.length; t++) {
      const [a, b, c] = this.triangles.subarray(3 * t, 3 * t + 3);
      areas[t] = twiceArea(p, a, b, c);
    }
    return areas;
  }

  // ---- moved

  #move(points) {
    const { moved, seen } = this;
    for (let i = 0; i < 136; i++) moved[i] = points[i] - seen[i];
    uncrossed(moved, points, this.axes);
    // Single points of the jaw jitter; its line does not.
    let [x, y] = [moved[0], moved[1]];
    for (let i = 1; i < 16; i++) {
      const [px, py] = [moved[2 * i], moved[2 * i + 1]];
      moved[2 * i] = 0.5 * px + 0.25 * (x + moved[2 * i + 2]);
      moved[2 * i + 1] = 0.5 * py + 0.25 * (y + moved[2 * i + 3]);
      [x, y] = [px, py];
    }
    this.#meet(points);
    for (const [vertex, shares] of this.cuts) moved.set(sumOf(shares, moved), 2 * vertex);
    const head = rigidMotion(seen, points);
    for (const [vertex, follows] of this.head) {
      let [dx, dy] = head(this.place[2 * vertex], this.place[2 * vertex + 1]);
      for (let k = 0; k < follows.length; k += 2) {
        const [i, share] = [follows[k], follows[k + 1]];
        const [ix, iy] = head(seen[2 * i], seen[2 * i + 1]);
        dx += share * (moved[2 * i] - ix);
        dy += share * (moved[2 * i + 1] - iy);
      }
      moved[2 * vertex] = dx;
      moved[2 * vertex + 1] = dy;
    }
    for (const [vertex, shares] of this.free) moved.set(sumOf(shares, moved), 2 * vertex);
  }

  // The rims meet as the lids and the lips do.
  #meet(points) {
    const back = (offsets, share) => {
      for (const [i, dx, dy] of offsets) {
        this.moved[2 * i] -= share * dx;
        this.moved[2 * i + 1] -= share * dy;
      }
    };
    for (const lids of this.rims) {
      back(lids.offsets, Math.max(-0.5, 1 - gapOf(points, lids, this.axes) / lids.open));
    }
    back(this.lips, 1);
  }

  #put(share) {
    const { out, moved, place } = this;
    for (let i = 0; i < out.length; i++) out[i] = place[i] + share * moved[i];
  }

  /** The triangles that have turned over, or nearly. */
  #flipped() {
    const { out, triangles, areas } = this;
    return this.guarded.filter((t) => {
      const k = 3 * t;
      const area = twiceArea(out, triangles[k], triangles[k + 1], triangles[k + 2]);
      return area < LEAST_AREA * areas[t];
    });
  }

  // What would turn over is drawn into line with its neighbours. @returns whether that was enough
  #relax() {
    const { out, place, triangles } = this;
    for (let k = 0; k < ROUNDS; k++) {
      const flipped = this.#flipped();
      if (flipped.length === 0) return true;
      for (const t of flipped) {
        const corners = triangles.subarray(3 * t, 3 * t + 3);
        for (let axis = 0; axis < 2; axis++) {
          let mean = 0;
          for (const i of corners) mean += (out[2 * i + axis] - place[2 * i + axis]) / 3;
          for (const i of corners) {
            if (i >= this.moving && i < this.controls) continue; // what stands still
            const v = 2 * i + axis;
            out[v] = place[v] + 0.5 * (out[v] - place[v]) + 0.5 * mean;
          }
        }
      }
    }
    return this.#flipped().length === 0;
  }
}

/** @param {number[]} shares flat @param {ArrayLike<number>} p flat @returns {[number, number]} */
function sumOf(shares, p) {
  let [x, y] = [0, 0];
  for (let k = 0; k < shares.length; k += 2) {
    x += shares[k + 1] * p[2 * shares[k]];
    y += shares[k + 1] * p[2 * shares[k] + 1];
  }
  return [x, y];
}

/** How far an eye is open, along the face. */
function gapOf(points, { top, low }, { down }) {
  const gap = low.reduce((sum, i, k) => sum + below(points, i, top[k], down), 0);
  return Math.max(0, gap / 2);
}

// Lips that would pass through each other meet half way.
function uncrossed(moved, points, { down }) {
  for (const [top, low] of INNER_PAIRS) {
    const gap = below(points, low, top, down);
    if (gap >= 0) continue;
    for (let k = 0; k < 2; k++) {
      moved[2 * top + k] += (gap / 2) * down[k];
      moved[2 * low + k] -= (gap / 2) * down[k];
    }
  }
}

/** Twice the area of a triangle of flat points, positive where it goes round as it should. */
export function twiceArea(p, a, b, c) {
  const [x, y] = [p[2 * a], p[2 * a + 1]];
  return (p[2 * b] - x) * (p[2 * c + 1] - y) - (p[2 * b + 1] - y) * (p[2 * c] - x);
}
