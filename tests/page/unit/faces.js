// The drawn face in a photo of 640 x 660, and the areas of a mesh over it.

import { NEUTRAL } from "../../../client/viewer/face/landmarks.js";
import { twiceArea } from "../../../client/viewer/photo/face-mesh.js";
import { VIEWER, json, range } from "./viewer.js";

export const TABLE = json("photo/face-mesh.json", VIEWER);
export const PLACED = Float32Array.from(NEUTRAL, (v, i) => 2 * (v + (i % 2 ? 58 : 32)));

export const areasOf = (mesh, p) => range(mesh.triangles.length / 3).map((t) =>
  twiceArea(p, ...mesh.triangles.subarray(3 * t, 3 * t + 3)) / 2);

/** The least area of a triangle that must not turn over, with the landmarks there. */
export function leastOf(mesh, points) {
  const areas = areasOf(mesh, mesh.deform(points));
  return Math.min(...mesh.guarded.map((t) => areas[t]));
}
