// The mesh of a photo as the landmarks move it: every position is its place in the photo plus a
// sum of the landmarks' movements. No triangle turns over: what would is held back.

import { LIDS, MeshPlan, gapOf } from "./mesh-plan.js";
import { INNER_PAIRS, below, rigidMotion } from "../face/landmarks.js";
import { twiceArea } from "./delaunay.js";

const LEAST_AREA = 0.02; // of its area in the photo that a triangle keeps
const LINE = 1e-6; // squared distances between the eyes
const RELAXED = 12; // rounds

export class FaceMesh extends MeshPlan {
  /**
   * @param {ArrayLike<number>} seen (136,) the landmarks in the photo
   * @param {number} width of the photo @param {number} height
   */
  constructor(seen, width, height) {
    super(seen, width, height);
    this.texture = Float32Array.from(this.place);
    this.moved = new Float64Array(2 * this.count);
    this.out = new Float32Array(2 * this.count);
    this.areas = this.#areas(this.texture); // rounded as `out` is
    this.guarded = this.#guarded();
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
    return LIDS.map((lids, k) => 1 - Math.min(1, gapOf(points, lids, this.axes) / this.rims[k].open));
  }

  #areas(p) {
    const areas = new Float64Array(this.triangles.length / 3);
    for (let t = 0; t < areas.length; t++) {
      const [a, b, c] = this.triangles.subarray(3 * t, 3 * t + 3);
      areas[t] = twiceArea(p, a, b, c);
    }
    return areas;
  }

  // Slivers along a hole's own edge turn over as it closes, and nobody sees it. Nor does anyone see
  // those that are hardly more than a line, which would hold the whole face.
  #guarded() {
    const least = LINE * this.axes.size ** 2;
    const rims = this.holes.map((hole) => new Set(hole));
    const triangles = Array.from(this.areas, (_, t) => t);
    return triangles.filter((t) => {
      const corners = [...this.triangles.subarray(3 * t, 3 * t + 3)];
      return this.areas[t] > least && !rims.some((rim) => corners.every((i) => rim.has(i)));
    });
  }

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
    for (const [vertex, leaders] of this.cuts) {
      let [x, y] = [0, 0];
      for (const [i, share] of leaders) {
        x += share * moved[2 * i];
        y += share * moved[2 * i + 1];
      }
      moved[2 * vertex] = x;
      moved[2 * vertex + 1] = y;
    }
    const head = rigidMotion(seen, points);
    for (const { vertex, leaders } of this.followers) {
      const [dx, dy] = head(this.place[2 * vertex], this.place[2 * vertex + 1]);
      [moved[2 * vertex], moved[2 * vertex + 1]] = [dx, dy];
      for (const [i, share] of leaders) {
        const [ix, iy] = head(seen[2 * i], seen[2 * i + 1]);
        moved[2 * vertex] += share * (moved[2 * i] - ix);
        moved[2 * vertex + 1] += share * (moved[2 * i + 1] - iy);
      }
    }
    const { starts, controls, shares } = this.sums;
    for (let free = this.controls, r = 0; free < this.count; free++, r++) {
      let [sx, sy] = [0, 0];
      for (let k = starts[r]; k < starts[r + 1]; k++) {
        sx += shares[k] * moved[2 * controls[k]];
        sy += shares[k] * moved[2 * controls[k] + 1];
      }
      moved[2 * free] = sx;
      moved[2 * free + 1] = sy;
    }
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
    for (let k = 0; k < RELAXED; k++) {
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
