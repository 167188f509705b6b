// Delaunay triangulation by insertion (Bowyer 1981, Watson 1981): for some hundred points, once.

/**
 * @param {number[]} p flat points x0, y0, ..., no two in the same place
 * @returns {number[]} three indices a triangle, each going round the same way (positive area
 *   with y down)
 */
export function delaunay(p) {
  const count = p.length / 2;
  const [left, top, right, low] = bounds(p);
  const [cx, cy] = [(left + right) / 2, (top + low) / 2];
  const far = 40 * Math.max(right - left, low - top, 1e-9);
  // A triangle round everything, whose corners are taken away at the end.
  const all = [...p, cx - far, cy - far, cx + far, cy - far, cx, cy + far];
  let triangles = [circled(all, count, count + 1, count + 2)];
  for (let i = 0; i < count; i++) triangles = inserted(all, triangles, i);
  return triangles.filter((t) => t.a < count && t.b < count && t.c < count)
    .flatMap(({ a, b, c }) => [a, b, c]);
}

/** Twice the area of a triangle of flat points, positive where it goes round as it should. */
export function twiceArea(p, a, b, c) {
  const [x, y] = [p[2 * a], p[2 * a + 1]];
  return (p[2 * b] - x) * (p[2 * c + 1] - y) - (p[2 * b + 1] - y) * (p[2 * c] - x);
}

function bounds(p) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < p.length; i += 2) {
    box[0] = Math.min(box[0], p[i]);
    box[1] = Math.min(box[1], p[i + 1]);
    box[2] = Math.max(box[2], p[i]);
    box[3] = Math.max(box[3], p[i + 1]);
  }
  return box;
}

function inserted(p, triangles, i) {
  const [x, y] = [p[2 * i], p[2 * i + 1]];
  const kept = [];
  const edges = new Map(); // of the hole: those that belong to one triangle that goes
  for (const t of triangles) {
    if ((x - t.x) ** 2 + (y - t.y) ** 2 >= t.reach) {
      kept.push(t);
      continue;
    }
    for (const [a, b] of [[t.a, t.b], [t.b, t.c], [t.c, t.a]]) {
      if (!edges.delete(`${b} ${a}`)) edges.set(`${a} ${b}`, [a, b]);
    }
  }
  for (const [a, b] of edges.values()) kept.push(circled(p, a, b, i));
  return kept;
}

/** A triangle with the circle through its corners. */
function circled(p, a, b, c) {
  const area = twiceArea(p, a, b, c);
  if (area < 0) [b, c] = [c, b];
  const [ax, ay] = [p[2 * a], p[2 * a + 1]];
  const [bx, by] = [p[2 * b] - ax, p[2 * b + 1] - ay];
  const [dx, dy] = [p[2 * c] - ax, p[2 * c + 1] - ay];
  const twice = 2 * (bx * dy - by * dx) || 1e-12; // corners in one line: a circle without end
  const ux = (dy * (bx * bx + by * by) - by * (dx * dx + dy * dy)) / twice;
  const uy = (bx * (dx * dx + dy * dy) - dx * (bx * bx + by * by)) / twice;
  return { a, b, c, x: ax + ux, y: ay + uy, reach: ux * ux + uy * uy };
}
