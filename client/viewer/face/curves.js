// Smooth curves through landmarks. Points are flat arrays x0, y0, x1, y1, ...

/** The landmarks of these numbers, as a flat array. */
export function pick(points, indices) {
  const flat = new Array(2 * indices.length);
  indices.forEach((i, k) => {
    flat[2 * k] = points[2 * i];
    flat[2 * k + 1] = points[2 * i + 1];
  });
  return flat;
}

/**
 * Adds a Catmull-Rom spline through `p` to `path`, as Bezier pieces: the tangent at each point
 * is parallel to the line between its neighbours (Catmull & Rom 1974).
 * `on`: go on from where the path is; `tension` 1 is Catmull-Rom, 0 straight lines.
 */
export function spline(path, p, { closed = false, on = false, tension = 1 } = {}) {
  const count = p.length / 2;
  const at = (i) => (closed ? (i + count) % count : Math.max(0, Math.min(count - 1, i)));
  if (!on) path.moveTo(p[0], p[1]);
  const pieces = closed ? count : count - 1;
  const k = tension / 6;
  for (let i = 0; i < pieces; i++) {
    const [a, b, c, d] = [2 * at(i - 1), 2 * at(i), 2 * at(i + 1), 2 * at(i + 2)];
    path.bezierCurveTo(
      p[b] + k * (p[c] - p[a]), p[b + 1] + k * (p[c + 1] - p[a + 1]),
      p[c] - k * (p[d] - p[b]), p[c + 1] - k * (p[d + 1] - p[b + 1]),
      p[c], p[c + 1],
    );
  }
  if (closed) path.closePath();
  return path;
}

/** @param {number[]} p flat */
export const closedCurve = (p, tension = 1) => spline(new Path2D(), p, { closed: true, tension });

/** @param {number[]} p flat */
export const openCurve = (p, tension = 1) => spline(new Path2D(), p, { tension });

/** A shape between two open curves that share their ends: along `there`, then along `back`. */
export function between(there, back, tension = 1) {
  const path = spline(new Path2D(), there, { tension });
  spline(path, back, { on: true, tension });
  path.closePath();
  return path;
}

/** A stroke along `p`, as a filled shape, with a thickness at each of its points. */
export function tapered(p, thickness) {
  const count = p.length / 2;
  const upper = [];
  const lower = [];
  for (let i = 0; i < count; i++) {
    const a = 2 * Math.max(0, i - 1);
    const b = 2 * Math.min(count - 1, i + 1);
    const length = Math.hypot(p[b] - p[a], p[b + 1] - p[a + 1]) || 1;
    const nx = (-(p[b + 1] - p[a + 1]) / length) * (thickness[i] / 2);
    const ny = ((p[b] - p[a]) / length) * (thickness[i] / 2);
    upper.push(p[2 * i] - nx, p[2 * i + 1] - ny);
    lower.unshift(p[2 * i] + nx, p[2 * i + 1] + ny);
  }
  const path = spline(new Path2D(), upper);
  path.lineTo(lower[0], lower[1]);
  spline(path, lower, { on: true });
  path.closePath();
  return path;
}

/** The middle of a flat array of points. */
export function middle(p) {
  let [x, y] = [0, 0];
  for (let i = 0; i < p.length; i += 2) {
    x += p[i];
    y += p[i + 1];
  }
  return [(2 * x) / p.length, (2 * y) / p.length];
}

/** `p` scaled about its middle. */
export function scaled(p, sx, sy) {
  const [x, y] = middle(p);
  return p.map((v, i) => (i % 2 === 0 ? x + sx * (v - x) : y + sy * (v - y)));
}

/** Point by point from `p` towards `q`. */
export const mixed = (p, q, share) => p.map((v, i) => v + share * (q[i] - v));
