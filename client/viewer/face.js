// The drawn face: 68 landmarks in, a picture on a canvas out. It knows nothing of time,
// sound or the network. Everything is drawn in pixels of the 256 x 256 crop.

import { closedCurve, openCurve, pick, spline } from "./curves.js";
import { drawBrows, drawEyes } from "./face-eyes.js";
import { drawMouth } from "./face-mouth.js";
import { JAW } from "./landmarks.js";
import { colours, dotColours } from "./palette.js";

const VIEW = { x: -44, y: -66, width: 344, height: 344 };
const DENSITY_MOST = 2.5;

/** The head's own frame: the middle between the temples, its half width, across and up. */
function frameOf(points) {
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

const mirrored = (uv) => {
  const other = [];
  for (let i = uv.length - 2; i >= 0; i -= 2) other.push(-uv[i], uv[i + 1]);
  return other;
};

const SKULL_RIGHT = [1.0, 0.34, 0.96, 0.68, 0.82, 1.02, 0.56, 1.28];
const SKULL = [...SKULL_RIGHT, 0, 1.4, ...mirrored(SKULL_RIGHT)];
const HAIR_BACK_RIGHT = [0.93, -0.55, 1.1, -0.3, 1.17, 0.2, 1.16, 0.72, 1.0, 1.2, 0.64, 1.54];
const HAIR_BACK = [...HAIR_BACK_RIGHT, 0.04, 1.68, ...mirrored(HAIR_BACK_RIGHT)];
// The fringe parts at the image's right and sweeps across.
const FRINGE = [
  -1.06, -0.22, -1.0, 0.12, -0.93, 0.42, -0.72, 0.72, -0.3, 0.9, 0.12, 1.02, 0.36, 1.1,
  0.56, 0.94, 0.8, 0.66, 0.94, 0.36, 1.0, 0.1, 1.06, -0.22,
];

export class Face {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.g = canvas.getContext("2d");
    this.scale = 1;
    this.dots = false;
  }

  /** Fits the drawing buffer to the canvas' size on the screen. */
  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const density = Math.min(DENSITY_MOST, globalThis.devicePixelRatio || 1);
    this.canvas.width = Math.max(1, Math.round(clientWidth * density));
    this.canvas.height = Math.max(1, Math.round(clientHeight * density));
    this.scale = Math.min(this.canvas.width / VIEW.width, this.canvas.height / VIEW.height);
  }

  /** @param {Float32Array} points (136,) in pixels of the crop */
  draw(points) {
    const { g, canvas, scale } = this;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, canvas.width, canvas.height);
    const left = canvas.width / 2 - scale * (VIEW.x + VIEW.width / 2);
    const top = canvas.height - scale * (VIEW.y + VIEW.height);
    g.setTransform(scale, 0, 0, scale, left, top);
    g.lineCap = "round";
    g.lineJoin = "round";
    const place = frameOf(points);
    drawBack(g, points, place);
    drawHead(g, points, place);
    drawNose(g, points);
    drawEyes(g, points, colours);
    drawMouth(g, points, colours);
    drawBrows(g, points, colours);
    drawFringe(g, place);
    if (this.dots) drawDots(g, points);
  }
}

function drawBack(g, points, place) {
  const hair = g.createLinearGradient(60, -60, 200, 120);
  hair.addColorStop(0, colours.hairLight);
  hair.addColorStop(1, colours.hairDark);
  g.fillStyle = hair;
  g.fill(closedCurve(place(HAIR_BACK)));
  // Shoulders and neck keep still while the jaw moves.
  const shirt = g.createLinearGradient(0, 236, 0, 280);
  shirt.addColorStop(0, colours.shirt);
  shirt.addColorStop(1, colours.shirtLow);
  const neck = new Path2D("M84 150 C86 200 86 214 80 226 L128 262 L176 226 C170 214 170 200 172 150Z");
  const body = new Path2D(
    "M-44 290 C-30 252 20 244 58 236 C72 233 80 228 83 222 C96 250 160 250 173 222 " +
      "C176 228 184 233 198 236 C236 244 286 252 300 290Z",
  );
  const skin = g.createLinearGradient(0, 176, 0, 246);
  skin.addColorStop(0, colours.neckShadow);
  skin.addColorStop(0.45, colours.neckShadow);
  skin.addColorStop(1, colours.neck);
  g.fillStyle = skin;
  g.fill(neck);
  g.fillStyle = shirt;
  g.fill(body);
  g.strokeStyle = colours.collar;
  g.lineWidth = 3.2;
  g.stroke(new Path2D("M83 223 C96 251 160 251 173 223"));
  ears(g, place);
}

function ears(g, place) {
  for (const side of [-1, 1]) {
    const ear = [0.95, 0.2, 1.1, 0.22, 1.15, 0.0, 1.09, -0.3, 0.97, -0.5];
    const shape = closedCurve(place(ear.map((v, i) => (i % 2 === 0 ? side * v : v))));
    g.fillStyle = side < 0 ? colours.ear : colours.earDark;
    g.fill(shape);
    const fold = [1.06, 0.08, 1.09, -0.06, 1.04, -0.24];
    g.strokeStyle = colours.earFold;
    g.lineWidth = 1.4;
    g.stroke(openCurve(place(fold.map((v, i) => (i % 2 === 0 ? side * v : v)))));
  }
}

function drawHead(g, points, place) {
  const head = closedCurve([...pick(points, JAW), ...place(SKULL)]);
  const [cx, cy] = place([-0.3, 0.25]);
  const skin = g.createRadialGradient(cx, cy, 10, cx + 16, cy + 30, 158);
  skin.addColorStop(0, colours.skinLight);
  skin.addColorStop(0.5, colours.skin);
  skin.addColorStop(1, colours.skinShade);
  g.fillStyle = skin;
  g.fill(head);
  g.save();
  g.clip(head);
  const side = g.createLinearGradient(...place([0.1, 0]), ...place([1.05, -0.1]));
  side.addColorStop(0, colours.sideOut);
  side.addColorStop(1, colours.side);
  g.fillStyle = side;
  g.fillRect(-60, -100, 400, 400);
  blush(g, points);
  shadowOfHair(g, place);
  // Light comes back from below along the edge of the jaw.
  g.strokeStyle = colours.rim;
  g.lineWidth = 3;
  g.stroke(openCurve(pick(points, JAW)));
  g.restore();
}

// Cheeks warm up as the corners of the mouth rise.
function blush(g, points) {
  const [lx, ly, rx, ry] = pick(points, [48, 54]);
  const smile = Math.max(0, Math.min(1, (rx - lx - 53) / 14));
  g.globalAlpha = 0.55 + 0.45 * smile;
  for (const [x, y, jaw] of [[lx, ly, 2], [rx, ry, 14]]) {
    const bx = 0.52 * x + 0.48 * points[2 * jaw];
    const by = 0.4 * y + 0.6 * points[2 * jaw + 1] - 3 * smile;
    const fill = g.createRadialGradient(bx, by, 2, bx, by, 26);
    fill.addColorStop(0, colours.blush);
    fill.addColorStop(1, colours.blushOut);
    g.fillStyle = fill;
    g.fillRect(bx - 26, by - 26, 52, 52);
  }
  g.globalAlpha = 1;
}

function shadowOfHair(g, place) {
  g.fillStyle = colours.hairShadow;
  g.fill(fringe(place, -0.07));
}

function drawNose(g, points) {
  const [bx, by, tx, ty] = pick(points, [27, 30]);
  const wings = pick(points, [31, 32, 33, 34, 35]);
  const bridge = g.createLinearGradient(tx - 15, 0, tx + 17, 0);
  bridge.addColorStop(0, colours.noseOut);
  bridge.addColorStop(0.5, colours.noseOut);
  bridge.addColorStop(0.62, colours.noseSide);
  bridge.addColorStop(1, colours.noseOut);
  g.fillStyle = bridge;
  const plane = new Path2D();
  plane.moveTo(bx + 2, by - 6);
  plane.quadraticCurveTo(bx + 5, (by + ty) / 2, wings[8] + 4, wings[9] - 1);
  plane.quadraticCurveTo(tx, ty + 16, tx, ty);
  plane.closePath();
  g.fill(plane);
  const tip = g.createRadialGradient(tx - 2, ty - 2, 0, tx - 2, ty - 1, 11);
  tip.addColorStop(0, colours.shine);
  tip.addColorStop(1, colours.shineOut);
  g.fillStyle = tip;
  g.fillRect(tx - 14, ty - 14, 26, 26);
  g.strokeStyle = colours.shineLine;
  g.lineWidth = 3.4;
  g.stroke(openCurve([bx - 1, by + 4, bx - 1.2, (by + ty) / 2, tx - 1.6, ty - 9]));
  // Beneath: the wings, the nostrils and the shadow the tip casts.
  const under = g.createRadialGradient(wings[4], wings[5] + 1, 1, wings[4], wings[5] + 2, 15);
  under.addColorStop(0, colours.noseUnder);
  under.addColorStop(1, colours.noseOut);
  g.fillStyle = under;
  g.fillRect(wings[4] - 16, wings[5] - 4, 32, 18);
  g.strokeStyle = colours.noseLine;
  g.lineWidth = 1.3;
  for (const [k, side] of [[0, -1], [8, 1]]) {
    const [x, y] = [wings[k], wings[k + 1]];
    g.stroke(openCurve([x + side * 0.5, y - 8, x + side * 3.6, y - 3.5, x + side * 2.4, y + 1, x - side, y + 1.2]));
  }
  g.fillStyle = colours.nostril;
  for (const [k, side] of [[2, -1], [6, 1]]) {
    const [x, y] = [wings[k] + side * 0.6, wings[k + 1] - 0.6];
    g.beginPath();
    g.ellipse(x, y, 3.5, 1.5, side * -0.28, 0, 2 * Math.PI);
    g.fill();
  }
}

function fringe(place, shift) {
  const line = place(FRINGE.map((v, i) => (i % 2 === 0 ? v : v + shift)));
  const over = place([1.22, 0.3, 1.1, 1.1, 0.66, 1.56, 0.04, 1.7, -0.66, 1.56, -1.1, 1.1, -1.22, 0.3]);
  const path = spline(new Path2D(), line);
  spline(path, [line.at(-2), line.at(-1), ...over, line[0], line[1]], { on: true });
  path.closePath();
  return path;
}

function drawFringe(g, place) {
  const shape = fringe(place, 0);
  const [x0, y0, x1, y1] = place([-0.9, 1.4, 0.9, 0]);
  const hair = g.createLinearGradient(x0, y0, x1, y1);
  hair.addColorStop(0, colours.hair);
  hair.addColorStop(0.35, colours.hairLight);
  hair.addColorStop(1, colours.hairDark);
  g.fillStyle = hair;
  g.fill(shape);
  g.save();
  g.clip(shape);
  g.lineWidth = 1.6;
  g.strokeStyle = colours.strand;
  for (let k = 0; k < 6; k++) {
    const s = k * 0.11;
    g.stroke(openCurve(place([0.4 - s * 0.2, 1.2 + s * 0.7, -0.1 - s * 0.5, 1.12 + s * 0.6, -0.6 - s * 0.55, 0.88 + s * 0.55, -0.95 - s * 0.3, 0.4 + s * 0.4])));
  }
  for (let k = 0; k < 3; k++) {
    const s = k * 0.12;
    g.stroke(openCurve(place([0.45 + s, 1.22 + s * 0.5, 0.8 + s * 0.6, 0.9 + s * 0.5, 1.0 + s * 0.3, 0.3])));
  }
  g.restore();
}

function drawDots(g, points) {
  g.lineWidth = 0.8;
  for (let i = 0; i < points.length; i += 2) {
    g.beginPath();
    g.arc(points[i], points[i + 1], 1.7, 0, 2 * Math.PI);
    g.fillStyle = dotColours.fill;
    g.strokeStyle = dotColours.edge;
    g.fill();
    g.stroke();
  }
}
