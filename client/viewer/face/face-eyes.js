// Eyes and brows of the drawn face.

import { between, middle, openCurve, pick, scaled, tapered } from "./curves.js";
import { BROWS, EYES } from "./landmarks.js";

const IRIS = 0.21; // radius, in widths of the eye
const WIDER = 1.08; // tracked lids lie inside the lashes: the drawn eye is a little larger
const TALLER = 1.3;

/** @param {CanvasRenderingContext2D} g @param {Float32Array} points @param {object} colours */
export function drawEyes(g, points, colours) {
  EYES.forEach((indices, side) => {
    const eye = scaled(pick(points, indices), WIDER, TALLER);
    const upper = eye.slice(0, 8);
    const lower = [...eye.slice(6), eye[0], eye[1]];
    const [x, y] = middle(eye);
    const width = Math.hypot(eye[6] - eye[0], eye[7] - eye[1]);
    socket(g, x, y, width, colours);
    const opening = between(upper, lower);
    g.save();
    g.clip(opening);
    white(g, x, y, width, eye, colours);
    iris(g, x + (side === 0 ? 0.2 : -0.2), y - 0.5, IRIS * width, colours);
    lidShadow(g, upper, colours);
    g.restore();
    lids(g, upper, lower, side, colours);
  });
}

function socket(g, x, y, width, colours) {
  g.save();
  g.translate(x, y - 0.12 * width);
  g.scale(1, 0.62);
  const shade = g.createRadialGradient(0, 0, 0.2 * width, 0, 0, 0.95 * width);
  shade.addColorStop(0, colours.socket);
  shade.addColorStop(1, colours.socketOut);
  g.fillStyle = shade;
  g.fillRect(-width, -width, 2 * width, 2 * width);
  g.restore();
}

function white(g, x, y, width, eye, colours) {
  const fill = g.createRadialGradient(x, y, 0.1 * width, x, y, 0.56 * width);
  fill.addColorStop(0, colours.white);
  fill.addColorStop(1, colours.whiteEdge);
  g.fillStyle = fill;
  g.fillRect(eye[0] - width, y - width, 3 * width, 2 * width);
}

function iris(g, x, y, radius, colours) {
  const fill = g.createRadialGradient(x, y + 0.35 * radius, 0.1 * radius, x, y, radius);
  fill.addColorStop(0, colours.irisLight);
  fill.addColorStop(0.62, colours.iris);
  fill.addColorStop(1, colours.irisRim);
  disc(g, x, y, radius, fill);
  disc(g, x, y, 0.43 * radius, colours.pupil);
  disc(g, x - 0.34 * radius, y - 0.36 * radius, 0.22 * radius, "rgba(255,255,255,.92)");
  disc(g, x + 0.36 * radius, y + 0.34 * radius, 0.11 * radius, "rgba(255,255,255,.38)");
}

function disc(g, x, y, radius, fill) {
  g.fillStyle = fill;
  g.beginPath();
  g.arc(x, y, radius, 0, 2 * Math.PI);
  g.fill();
}

function lidShadow(g, upper, colours) {
  g.strokeStyle = colours.lidShadow;
  g.lineWidth = 4.6;
  g.stroke(openCurve(upper));
}

function lids(g, upper, lower, side, colours) {
  // Lashes: heavier towards the outer corner, which is first on one side and last on the other.
  const lash = side === 0 ? [1.5, 2.1, 1.9, 0.7] : [0.7, 1.9, 2.1, 1.5];
  const wing = side === 0 ? [-1.8, -0.9, 0, 0] : [0, 0, 0, 0];
  const far = side === 1 ? [0, 0, 1.8, -0.9] : [0, 0, 0, 0];
  const line = upper.slice();
  line[0] += wing[0];
  line[1] += wing[1];
  line[6] += far[2];
  line[7] += far[3];
  g.fillStyle = colours.lash;
  g.fill(tapered(line, lash));
  g.strokeStyle = colours.lowerLid;
  g.lineWidth = 0.8;
  g.stroke(openCurve(lower));
  g.strokeStyle = colours.crease;
  g.lineWidth = 1;
  const lift = [2.4, 4.2, 4.2, 2.6];
  g.stroke(openCurve(upper.map((v, i) => (i % 2 === 0 ? v : v - lift[(i - 1) / 2]))));
}

/** @param {CanvasRenderingContext2D} g @param {Float32Array} points @param {object} colours */
export function drawBrows(g, points, colours) {
  BROWS.forEach((indices, side) => {
    const middleLine = pick(points, indices);
    const thickness = side === 0 ? [0.6, 3.6, 5.2, 5.6, 3.4] : [3.4, 5.6, 5.2, 3.6, 0.6];
    const brow = tapered(middleLine, thickness);
    g.fillStyle = g.strokeStyle = colours.brow;
    g.lineWidth = 1.4;
    g.stroke(brow); // rounds its ends
    g.fill(brow);
  });
}
