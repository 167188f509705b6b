// The 68-point layout (iBUG order) as flat arrays x0, y0, x1, y1, ..., x right, y down: in pixels
// of the canonical 256 x 256 crop, or of whatever picture a face was found in.

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

export const INNER_UPPER = [61, 62, 63];
export const INNER_LOWER = [67, 66, 65];
/** Points of the inner lips that lie one above the other: [upper, lower]. */
export const INNER_PAIRS = INNER_UPPER.map((top, k) => [top, INNER_LOWER[k]]);
/** A mouth whose gap is larger than this, in distances between the eyes, is open: what is found of
 * lips that touch is apart by half as much. */
export const OPEN_MOUTH = 0.075;
/** What speech and expression hardly move: the bridge of the nose and the corners of the eyes. */
const RIGID = [27, 28, 29, 30, 36, 39, 42, 45];
const LIDS = [[37, 41], [38, 40], [43, 47], [44, 46]]; // upper, lower
const LOWER_LID = 0.12; // share of the way that the lower lid comes up in a blink

/**
 * A face's own axes: its size (between the outer corners of the eyes), the middle between them,
 * unit vectors to its right in the picture and down, and places in them.
 */
export function axesOf(points) {
  const [x0, y0, x1, y1] = [points[72], points[73], points[90], points[91]];
  const size = Math.hypot(x1 - x0, y1 - y0) || 1;
  const right = [(x1 - x0) / size, (y1 - y0) / size];
  const down = [-right[1], right[0]];
  const middle = [(x0 + x1) / 2, (y0 + y1) / 2];
  /** (u, v) in sizes, v down -> [x, y] */
  const at = (u, v) => [0, 1].map((k) => middle[k] + size * (u * right[k] + v * down[k]));
  return { size, middle, right, down, at };
}

/** How far point `low` lies below point `top` of a face, along its own `down`. */
export const below = (points, low, top, down) =>
  (points[2 * low] - points[2 * top]) * down[0] +
  (points[2 * low + 1] - points[2 * top + 1]) * down[1];

/** [x, y] of each of flat points. */
export const pairs = (points) =>
  Array.from({ length: points.length / 2 }, (_, i) => [points[2 * i], points[2 * i + 1]]);

/** The mean height of the opening between the inner lips, along the face. */
export function lipGap(points) {
  const { down } = axesOf(points);
  return INNER_PAIRS.reduce((sum, [top, low]) => sum + below(points, low, top, down), 0) / 3;
}

// How far a point follows the jaw when the mouth is shut: the share of the lip gap it rises.
const FOLLOWS = new Map([
  [67, 1], [66, 1], [65, 1], [59, 0.8], [58, 0.95], [57, 1], [56, 0.95], [55, 0.8],
  [5, 0.45], [6, 0.8], [7, 1], [8, 1], [9, 1], [10, 0.8], [11, 0.45], [4, 0.2], [12, 0.2],
]);

/**
 * The same face with its mouth shut, the jaw raised with the lower lip; all else stays, so a
 * smile stays a smile.
 */
export function mouthShut(points) {
  const shut = dropped(points, -Math.max(0, lipGap(points)));
  for (const [top, low] of INNER_PAIRS) {
    for (let axis = 0; axis < 2; axis++) shut[2 * low + axis] = shut[2 * top + axis];
  }
  return shut;
}

/** The same face with its mouth at least so far open, in the points' units. */
export function parted(points, gap) {
  return dropped(points, Math.max(0, gap - lipGap(points)));
}

function dropped(points, by) {
  const { down } = axesOf(points);
  const face = Float32Array.from(points);
  for (const [i, share] of FOLLOWS) {
    face[2 * i] += share * by * down[0];
    face[2 * i + 1] += share * by * down[1];
  }
  return face;
}

/** The complex number (a, b) that turns and scales `from` to `to`, and both middles. */
function turned(from, to) {
  const mean = (p, axis) => RIGID.reduce((sum, i) => sum + p[2 * i + axis], 0) / RIGID.length;
  const [fx, fy, tx, ty] = [mean(from, 0), mean(from, 1), mean(to, 0), mean(to, 1)];
  let [a, b, length] = [0, 0, 0];
  for (const i of RIGID) {
    const [x, y] = [from[2 * i] - fx, from[2 * i + 1] - fy];
    const [u, v] = [to[2 * i] - tx, to[2 * i + 1] - ty];
    a += x * u + y * v;
    b += x * v - y * u;
    length += x * x + y * y;
  }
  return { a: a / (length || 1), b: b / (length || 1), fx, fy, tx, ty };
}

/** How the head went from one set of points to another: its movement at a place of the first. */
export function rigidMotion(from, to) {
  const { a, b, fx, fy, tx, ty } = turned(from, to);
  return (x, y) => [
    tx + a * (x - fx) - b * (y - fy) - x,
    ty + b * (x - fx) + a * (y - fy) - y,
  ];
}

/**
 * Brings frames of one face to another, as the server itself lays one movement on any face: the
 * movement is turned and scaled, and eyes that are half shut there are half shut here.
 */
export function retargeting(from, to) {
  const there = turned(from, NEUTRAL);
  const here = turned(to, NEUTRAL);
  const size = here.a * here.a + here.b * here.b || 1;
  const a = (there.a * here.a + there.b * here.b) / size;
  const b = (there.b * here.a - there.a * here.b) / size;
  return (frame) => {
    const out = new Float32Array(to.length);
    for (let i = 0; i < out.length; i += 2) {
      const [x, y] = [frame[i] - from[i], frame[i + 1] - from[i + 1]];
      out[i] = to[i] + a * x - b * y;
      out[i + 1] = to[i + 1] + b * x + a * y;
    }
    lidsAlike(frame, from, out, to);
    return out;
  };
}

function lidsAlike(frame, from, out, to) {
  const [there, here] = [axesOf(frame).down, axesOf(out).down];
  for (const [top, low] of LIDS) {
    const rest = below(from, low, top, axesOf(from).down);
    const open = below(frame, low, top, there);
    if (rest <= 0 || open >= rest) continue;
    const target = (Math.max(0, open) / rest) * below(to, low, top, axesOf(to).down);
    const more = below(out, low, top, here) - target;
    for (let k = 0; k < 2; k++) {
      out[2 * top + k] += (1 - LOWER_LID) * more * here[k];
      out[2 * low + k] -= LOWER_LID * more * here[k];
    }
  }
}
