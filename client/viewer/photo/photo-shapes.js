// What a photo's face has besides the skin: the eyes behind the lids, the mouth behind the
// lips, the lines where they meet. Each is a list of triangles: flat places, and four numbers a
// vertex for its program.

/** A strip between two rows of vertices, [[x, y, ...what], ...] each, as triangles. */
function strip(one, other) {
  const [places, what] = [[], []];
  const put = ([x, y, ...rest]) => {
    places.push(x, y);
    what.push(...rest);
  };
  for (let k = 0; k + 1 < one.length; k++) {
    for (const v of [one[k], one[k + 1], other[k], other[k], one[k + 1], other[k + 1]]) put(v);
  }
  return { places, what };
}

/** The eyeballs as the photo has them: they go with the head, and darken under the lids. */
export function eyes(mesh, points, shut) {
  const [places, what] = [[], []];
  [[36, 39], [42, 45]].forEach(([a, b], side) => {
    const { seen } = mesh;
    const moved = [0, 1].map((k) =>
      (points[2 * a + k] + points[2 * b + k] - seen[2 * a + k] - seen[2 * b + k]) / 2);
    const [x, y] = [0, 1].map((k) => (seen[2 * a + k] + seen[2 * b + k]) / 2);
    const reach = 0.62 * Math.hypot(seen[2 * b] - seen[2 * a], seen[2 * b + 1] - seen[2 * a + 1]);
    const shade = 0.35 * Math.max(0, shut[side]);
    for (const [u, v] of [[-1, -1], [1, -1], [-1, 1], [-1, 1], [1, -1], [1, 1]]) {
      const [tx, ty] = [x + u * reach, y + v * reach];
      places.push(tx + moved[0], ty + moved[1]);
      what.push(tx, ty, shade, 0);
    }
  });
  return { places, what };
}

const TUCKED = 0.02; // the mouth reaches so far beneath the lips, in distances between the eyes

/** The mouth behind the lips. Shut, it lies wholly beneath them. */
export function mouth(mesh, places) {
  const { size, down } = mesh.axes;
  const top = mesh.curve("innerTop");
  const low = mesh.curve("innerLow").toReversed();
  const at = (i) => [places[2 * i], places[2 * i + 1]];
  const gaps = top.map((i, k) => {
    const [x, y] = at(i);
    const [u, v] = at(low[k]);
    return Math.max(0, (u - x) * down[0] + (v - y) * down[1]) / size;
  });
  const open = Math.max(...gaps);
  const [[x0, y0], [x1, y1]] = [at(top[0]), at(top.at(-1))];
  const length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) || 1;
  const row = (indices, way) => indices.map((i, k) => {
    const [x, y] = at(i);
    const across = (2 * ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0))) / length - 1;
    const depth = way < 0 ? [-TUCKED, gaps[k] + TUCKED] : [gaps[k] + TUCKED, -TUCKED];
    const reach = way * TUCKED * size;
    return [x + reach * down[0], y + reach * down[1], across, ...depth, open];
  });
  return strip(row(top, -1), row(low, 1));
}

/** A stroke along vertices, [x, y, half width, alpha] each. */
function stroke(line) {
  const [one, other] = [[], []];
  line.forEach(([x, y, half, alpha], k) => {
    const [ax, ay] = line[Math.max(0, k - 1)];
    const [bx, by] = line[Math.min(line.length - 1, k + 1)];
    const length = Math.hypot(bx - ax, by - ay) || 1;
    const [nx, ny] = [(-(by - ay) / length) * half, ((bx - ax) / length) * half];
    one.push([x - nx, y - ny, -1, alpha, 0, 0]);
    other.push([x + nx, y + ny, 1, alpha, 0, 0]);
  });
  return strip(one, other);
}

/** Where the lips meet; it fades as they part. */
export function seam(mesh, places, gap, pixel) {
  const alpha = 0.55 * Math.max(0, 1 - gap / 0.022);
  if (alpha === 0) return null;
  const low = mesh.curve("innerLow").toReversed();
  const top = mesh.curve("innerTop");
  const line = top.map((i, k) => {
    const u = Math.abs((2 * k) / (top.length - 1) - 1);
    const half = Math.max(0.7 * pixel, mesh.axes.size * 0.009 * (1 - 0.6 * u * u));
    return [
      (places[2 * i] + places[2 * low[k]]) / 2, (places[2 * i + 1] + places[2 * low[k] + 1]) / 2,
      half, alpha * (1 - 0.7 * u ** 3),
    ];
  });
  return stroke(line);
}

/** The lashes of a lid that comes down: they lie where the lids meet. */
export function lash(mesh, places, side, shut) {
  const alpha = 0.8 * Math.max(0, Math.min(1, (shut - 0.35) / 0.5));
  if (alpha === 0) return null;
  const top = mesh.curve(`${side}Top`);
  const line = top.map((i, k) => {
    const u = Math.abs((2 * k) / (top.length - 1) - 1);
    const half = mesh.axes.size * 0.016 * (1 - 0.6 * u * u);
    return [places[2 * i], places[2 * i + 1], half, alpha * (1 - u ** 3)];
  });
  return stroke(line);
}

/** The landmarks themselves. */
export function dots(points, size, pixel) {
  const [places, what] = [[], []];
  const reach = Math.max(0.018 * size, 2.2 * pixel);
  for (let i = 0; i < points.length; i += 2) {
    for (const [u, v] of [[-1, -1], [1, -1], [-1, 1], [-1, 1], [1, -1], [1, 1]]) {
      places.push(points[i] + u * reach, points[i + 1] + v * reach);
      what.push(u, v, 0, 0);
    }
  }
  return { places, what };
}
