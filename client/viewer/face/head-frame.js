// The head as a whole, from its landmarks: where it is, its outline, how much it smiles.

import { pick } from "./curves.js";
import { JAW } from "./landmarks.js";

/** The head's own frame: the middle between the temples, its half width, across and up. */
export function frameOf(points) {
  const [x0, y0, x1, y1] = pick(points, [0, 16]);
  const half = Math.hypot(x1 - x0, y1 - y0) / 2;
  const [ux, uy] = [(x1 - x0) / (2 * half), (y1 - y0) / (2 * half)];
  const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
  /** (u, v) in half widths, u to the image's right, v up -> flat points */
  return (uv) => uv.map((_, i) => {
    const [u, v] = i % 2 === 0 ? [uv[i], uv[i + 1]] : [uv[i - 1], uv[i]];
    return i % 2 === 0 ? cx + half * (u * ux + v * uy) : cy + half * (u * uy - v * ux);
  });
}

/** The jaw line with the jitter of single points smoothed out; chin and temples stay. */
export function jawLine(points) {
  const p = pick(points, JAW);
  return p.map((v, i) => (i < 2 || i > p.length - 3 ? v : 0.5 * v + 0.25 * (p[i - 2] + p[i + 2])));
}

/** The other side of what is given in the head's frame, in the opposite order. */
export const mirrored = (uv) => {
  const other = [];
  for (let i = uv.length - 2; i >= 0; i -= 2) other.push(-uv[i], uv[i + 1]);
  return other;
};

/** 0..1: how far the corners of the mouth are drawn apart and up, against the eyes' distance. */
export function smileOf(points) {
  const [lx, ly, rx, ry, , my, ex, ey, fx, fy] = pick(points, [48, 54, 62, 36, 45]);
  const eyes = Math.hypot(fx - ex, fy - ey);
  const wide = (Math.hypot(rx - lx, ry - ly) / eyes - 0.59) / 0.11;
  const high = ((2 * my - ly - ry) / 2 / eyes + 0.012) / 0.05;
  return Math.max(0, Math.min(1, wide)) * Math.max(0, Math.min(1, 0.35 + high));
}
