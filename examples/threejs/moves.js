// How ARKit's coefficients move the points of head.js. +x is the subject's left, +z the camera.
import { MathUtils } from "three";

export const LIPS = -0.5; // the height at which they meet
export const ramp = MathUtils.smoothstep;
export const hill = (p, x, y, w, h) =>
  p.z > 0 ? Math.exp(-(((p.x - x) / w) ** 2) - ((p.y - y) / h) ** 2) : 0;
export const eye = (p, side) => p.z > 0 && Math.sqrt(
  Math.max(0, 1 - ((p.x - side * 0.29) / 0.21) ** 4 - ((p.y - 0.15) / 0.105) ** 2));
const lower = (p) => ramp(-p.t, -0.02, 0.02); // 0 on the upper lip, 1 on the lower one
const jaw = (p) => ramp(-p.t, 0, 0.5) * ramp(p.z, -0.3, 0.4);
const lips = (p) => hill(p, 0, LIPS, 0.36, 0.24);
const slit = (p) => Math.max(0, 1 - (p.t / 0.035) ** 2) * (p.arch > 0);
const half = (p, side) => p.arch * hill(p, side * 0.12, LIPS, 0.2, 0.2);
const corner = (p, side) => hill(p, side * 0.28, LIPS, 0.2, 0.2);
const brow = (p, side) => hill(p, side * 0.26, 0.4, 0.24, 0.14);

export const MOVES = { // a point's move; with `side` there are two, 1 the left and -1 the right
  jawOpen: (p) => [0, -0.34 * (jaw(p) + (1 - jaw(p)) * p.arch * lower(p)), -0.15 * slit(p)],
  mouthClose: (p) => [0, 0.34 * p.arch * lips(p) * lower(p), 0.15 * slit(p)],
  mouthPucker: (p) => [-0.5 * p.x * lips(p), 0, 0.12 * lips(p)],
  mouthFunnel: (p) =>
    [-0.4 * p.x * lips(p), (0.05 - 0.1 * lower(p)) * p.arch * lips(p), 0.12 * lips(p)],
  browInnerUp: (p) => [0, 0.13 * hill(p, 0, 0.4, 0.26, 0.16), 0],
  mouthSmile: (p, side) => [0.09 * side, 0.12, -0.04].map((d) => d * corner(p, side)),
  mouthFrown: (p, side) => [0, -0.1 * corner(p, side), 0],
  mouthStretch: (p, side) => [0.1 * side, 0, -0.04].map((d) => d * corner(p, side)),
  mouthUpperUp: (p, side) => [0, 0.09 * half(p, side) * (1 - lower(p)), 0],
  mouthLowerDown: (p, side) => [0, -0.09 * half(p, side) * lower(p), 0],
  eyeBlink: (p, side) => [0, 0, (0.21 - 0.3 * (Math.abs(p.x) - 0.2)) * eye(p, side)],
  eyeWide: (p, side) => [0, 0, -0.08 * eye(p, side)],
  browDown: (p, side) => [-0.03 * side, -0.1, 0].map((d) => d * brow(p, side)),
  browOuterUp: (p, side) => [0, 0.12 * hill(p, side * 0.42, 0.4, 0.2, 0.16), 0],
};
