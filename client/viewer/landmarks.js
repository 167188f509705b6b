// The 68-point layout (iBUG order) as flat arrays x0, y0, x1, y1, ... in pixels of the
// canonical 256 x 256 crop, x right, y down.

export const CROP = 256;

/** The server's `neutral` identity: what the face is before anyone has spoken. */
export const NEUTRAL = Float32Array.of(
  56.8, 65, 56.3, 99, 57.4, 116, 63.6, 153, 70.8, 168.2, 79.1, 179.1, 97, 194.4, 115.2, 202.8,
  128, 204, 140.8, 202.8, 159, 194.4, 176.9, 179.1, 185.2, 168.2, 192.4, 153, 198.6, 116,
  199.7, 99, 199.2, 65,
  64, 57.2, 74.2, 56.6, 85.4, 53.2, 99.8, 53.6, 114.6, 55.6,
  141.4, 55.6, 156.2, 53.6, 170.6, 53.2, 181.8, 56.6, 192, 57.2,
  128, 75.4, 128, 93, 128, 109.6, 128, 119.8,
  113.4, 129.8, 119.4, 133.6, 128, 134, 136.6, 133.6, 142.6, 129.8,
  82.1, 78, 89, 73.8, 100, 73.8, 111.3, 80.8, 101.2, 82, 90.6, 81.8,
  144.7, 80.8, 156, 73.8, 167, 73.8, 173.9, 78, 165.4, 81.8, 154.8, 82,
  101.2, 158.6, 112.6, 152.8, 120.6, 150.8, 128, 152.4, 135.4, 150.8, 143.4, 152.8,
  154.8, 158.6, 144.4, 168.2, 136.6, 170.8, 128, 171.4, 119.4, 170.8, 111.6, 168.2,
  103.6, 158.6, 121.4, 159.3, 128, 159.8, 134.6, 159.3,
  152.4, 158.6, 134.6, 159.3, 128, 159.8, 121.4, 159.3,
);

const run = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

export const JAW = run(0, 16);
export const BROWS = [run(17, 21), run(22, 26)];
export const EYES = [run(36, 41), run(42, 47)];
export const MOUTH_FIRST = 48;

const INNER_UPPER = [61, 62, 63];
const INNER_LOWER = [67, 66, 65];

/**
 * The mean height of the opening between the inner lips, in pixels.
 * @param {Float32Array} points (136,)
 */
export function lipGap(points) {
  let gap = 0;
  for (let k = 0; k < 3; k++) {
    gap += points[2 * INNER_LOWER[k] + 1] - points[2 * INNER_UPPER[k] + 1];
  }
  return gap / 3;
}

// How far a point follows the jaw when the mouth is shut: the share of the lip gap it rises.
const FOLLOWS = new Map([
  [67, 1], [66, 1], [65, 1], [59, 0.8], [58, 0.95], [57, 1], [56, 0.95], [55, 0.8],
  [5, 0.45], [6, 0.8], [7, 1], [8, 1], [9, 1], [10, 0.8], [11, 0.45], [4, 0.2], [12, 0.2],
]);

/**
 * The same face with its mouth shut, the jaw raised with the lower lip; all else stays, so a
 * smile stays a smile.
 * @param {Float32Array} points (136,)
 * @returns {Float32Array} (136,)
 */
export function mouthShut(points) {
  const shut = points.slice();
  const gap = Math.max(0, lipGap(points));
  for (const [i, share] of FOLLOWS) shut[2 * i + 1] -= share * gap;
  for (let k = 0; k < 3; k++) shut[2 * INNER_LOWER[k] + 1] = shut[2 * INNER_UPPER[k] + 1];
  return shut;
}
