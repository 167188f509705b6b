// How far each free vertex of a mesh follows each of the others: as a membrane does that is held
// there. The discrete Laplace equation with cotangent weights (Pinkall & Polthier 1993).

const ROUNDS = 160;
const OVER = 1.6; // successive over-relaxation
const LEAST = 0.05; // of an edge's weight, for blunt triangles

/**
 * @param {number[]} p flat vertices: first those held, then the free ones
 * @param {number[]} triangles three indices each
 * @param {number} held how many are held
 * @param {number} moving of the held, those that ever move: only their weights are given
 * @returns {(each: (free: number, control: number, weight: number) => void) => void}
 */
export function harmonic(p, triangles, held, moving) {
  const free = p.length / 2 - held;
  const edges = edgesOf(p, triangles, held, free);
  const weights = new Float64Array(free * moving);
  for (let round = 0; round < ROUNDS; round++) {
    let change = 0;
    for (let i = 0; i < free; i++) change = Math.max(change, follow(weights, edges[i], i, held, moving));
    if (change < 1e-4) break;
  }
  return (each) => {
    for (let i = 0; i < free; i++) {
      for (let k = 0; k < moving; k++) {
        const weight = weights[i * moving + k];
        if (weight > 1e-4) each(held + i, k, weight);
      }
    }
  };
}

const mean = new Float64Array(1024);

function follow(weights, edges, i, held, moving) {
  const row = mean.subarray(0, moving).fill(0);
  let total = 0;
  for (const [other, weight] of edges) {
    total += weight;
    if (other < moving) row[other] += weight;
    else if (other >= held) {
      const from = (other - held) * moving;
      for (let k = 0; k < moving; k++) row[k] += weight * weights[from + k];
    }
  }
  let change = 0;
  for (let k = 0; k < moving; k++) {
    const step = OVER * (row[k] / total - weights[i * moving + k]);
    weights[i * moving + k] += step;
    change = Math.max(change, Math.abs(step));
  }
  return change;
}

function edgesOf(p, triangles, held, free) {
  const edges = Array.from({ length: free }, () => new Map());
  const add = (from, to, weight) => {
    if (from < held) return;
    const row = edges[from - held];
    row.set(to, (row.get(to) ?? 0) + weight);
  };
  for (let t = 0; t < triangles.length; t += 3) {
    for (let k = 0; k < 3; k++) {
      const [a, b, c] = [0, 1, 2].map((j) => triangles[t + ((k + j) % 3)]);
      const weight = Math.max(LEAST, cotangent(p, a, b, c));
      add(b, c, weight);
      add(c, b, weight);
    }
  }
  return edges.map((row) => [...row]);
}

/** Of the angle at a. */
function cotangent(p, a, b, c) {
  const [ux, uy] = [p[2 * b] - p[2 * a], p[2 * b + 1] - p[2 * a + 1]];
  const [vx, vy] = [p[2 * c] - p[2 * a], p[2 * c + 1] - p[2 * a + 1]];
  return (ux * vx + uy * vy) / Math.max(1e-9, Math.abs(ux * vy - uy * vx));
}
