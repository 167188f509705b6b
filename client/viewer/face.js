// The drawn face: 68 landmarks in, a picture on a canvas out. It knows nothing of time,
// sound or the network. Everything is drawn in pixels of the 256 x 256 crop.

import { closedCurve, openCurve, pick, spline, tapered } from "./curves.js";
import { drawBrows, drawEyes } from "./face-eyes.js";
import { drawMouth } from "./face-mouth.js";
import { JAW } from "./landmarks.js";
import { colours, dotColours } from "./palette.js";

const VIEW = { x: -32, y: -58, width: 320, height: 330 };
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

/** The jaw line with the jitter of single points smoothed out; chin and temples stay. */
function jawLine(points) {
  const p = pick(points, JAW);
  return p.map((v, i) => (i < 2 || i > p.length - 3 ? v : 0.5 * v + 0.25 * (p[i - 2] + p[i + 2])));
}

const mirrored = (uv) => {
  const other = [];
  for (let i = uv.length - 2; i >= 0; i -= 2) other.push(-uv[i], uv[i + 1]);
  return other;
};

const SKULL_RIGHT = [1.0, 0.34, 0.96, 0.66, 0.82, 0.96, 0.56, 1.18];
const SKULL = [...SKULL_RIGHT, 0, 1.28, ...mirrored(SKULL_RIGHT)];
const HAIR_BACK_RIGHT = [0.9, 0.0, 1.07, 0.1, 1.15, 0.36, 1.14, 0.72, 1.0, 1.1, 0.64, 1.4];
const HAIR_BACK = [...HAIR_BACK_RIGHT, 0.04, 1.53, ...mirrored(HAIR_BACK_RIGHT)];
// The hairline from temple to temple: it parts at the image's right and sweeps across.
const FRINGE = [
  -1.08, -0.02, -1.01, 0.0, -0.97, 0.2, -0.91, 0.44, -0.74, 0.6, -0.36, 0.72, 0.1, 0.87, 0.42, 1.0,
  0.56, 0.86, 0.78, 0.62, 0.93, 0.42, 0.97, 0.2, 1.01, 0.0, 1.08, -0.02,
];
const OVER_HAIR = [
  1.14, 0.14, 1.19, 0.5, 1.1, 0.98, 0.74, 1.38, 0.3, 1.52, 0.02, 1.6, -0.6, 1.5, -1.04, 1.1,
  -1.19, 0.6, -1.14, 0.14,
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
    drawSmile(g, points);
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
  const jaw = jawLine(points);
  const head = closedCurve([...jaw, ...place(SKULL)]);
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
  g.stroke(openCurve(jaw));
  g.restore();
}

/** 0..1: how far the corners of the mouth are drawn apart and up, against the eyes' distance. */
function smileOf(points) {
  const [lx, ly, rx, ry, , my, ex, ey, fx, fy] = pick(points, [48, 54, 62, 36, 45]);
  const eyes = Math.hypot(fx - ex, fy - ey);
  const wide = (Math.hypot(rx - lx, ry - ly) / eyes - 0.59) / 0.11;
  const high = ((2 * my - ly - ry) / 2 / eyes + 0.012) / 0.05;
  return Math.max(0, Math.min(1, wide)) * Math.max(0, Math.min(1, 0.35 + high));
}

// The folds from the nose's wings round the mouth's corners: there when one smiles.
function drawSmile(g, points) {
  const smile = smileOf(points);
  if (smile < 0.05) return;
  g.globalAlpha = 0.8 * smile;
  g.fillStyle = colours.fold;
  for (const [wing, corner, side] of [[31, 48, -1], [35, 54, 1]]) {
    const [wx, wy, cx, cy] = pick(points, [wing, corner]);
    const fold = [
      wx + 5 * side, wy - 3, (wx + cx) / 2 + 9 * side, (wy + cy) / 2 - 3,
      cx + 6 * side, cy - 5, cx + 6 * side, cy - 1,
    ];
    g.fill(tapered(fold, [0.2, 1.8, 1.1, 0.1]));
  }
  g.globalAlpha = 1;
}

// Cheeks warm up as the corners of the mouth rise.
function blush(g, points) {
  const [lx, ly, rx, ry] = pick(points, [48, 54]);
  const smile = smileOf(points);
  g.globalAlpha = 0.5 + 0.5 * smile;
  for (const [x, y, jaw] of [[lx, ly, 2], [rx, ry, 14]]) {
    const bx = 0.52 * x + 0.48 * points[2 * jaw];
    const by = 0.4 * y + 0.6 * points[2 * jaw + 1] - 3 * smile;
    soft(g, bx, by, 27, colours.blush, colours.blushOut);
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
  bridge(g, bx, by, tx, ty);
  soft(g, tx - 2, ty - 1, 11, colours.shine, colours.shineOut);
  // Beneath: the wings, the nostrils and the shadow the tip casts.
  g.save();
  g.translate(wings[4], wings[5] + 2);
  g.scale(1, 0.5);
  soft(g, 0, 0, 17, colours.noseUnder, colours.noseOut);
  g.restore();
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

// The shaded side of the bridge and the light on its ridge, both fading at either end.
function bridge(g, bx, by, tx, ty) {
  const length = ty - by;
  g.save();
  g.translate((bx + tx) / 2 + 7, by + 0.4 * length);
  g.scale(0.17, 0.8);
  soft(g, 0, 0, length, colours.noseSide, colours.noseOut);
  g.restore();
  g.save();
  g.translate((bx + tx) / 2 - 1.5, by + 0.42 * length);
  g.scale(0.11, 0.6);
  soft(g, 0, 0, length, colours.shineLine, colours.shineOut);
  g.restore();
}

/** A round patch of colour that fades outwards. */
function soft(g, x, y, radius, inside, outside) {
  const fill = g.createRadialGradient(x, y, 0, x, y, radius);
  fill.addColorStop(0, inside);
  fill.addColorStop(1, outside);
  g.fillStyle = fill;
  g.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
}

function fringe(place, shift) {
  const line = place(FRINGE.map((v, i) => (i % 2 === 0 ? v : v + shift)));
  const over = place(OVER_HAIR);
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
  for (let k = 0; k < 7; k++) {
    const s = k * 0.085;
    const strand = [
      0.4 - 0.1 * s, 1.04 + 0.62 * s, 0.02 - 0.4 * s, 0.95 + 0.72 * s,
      -0.5 - 0.5 * s, 0.76 + 0.8 * s, -0.86 - 0.36 * s, 0.54 + 0.66 * s, -1.0 - 0.22 * s, 0.2 + 0.3 * s,
    ];
    g.fillStyle = colours.strand;
    g.fill(tapered(place(strand), [0.2, 1.4, 1.9, 1.2, 0.2]));
  }
  for (let k = 0; k < 4; k++) {
    const s = k * 0.09;
    const strand = [0.45 + 0.6 * s, 1.04 + 0.5 * s, 0.72 + 0.6 * s, 0.8 + 0.5 * s, 1.0 + 0.22 * s, 0.3];
    g.fill(tapered(place(strand), [0.2, 1.6, 0.2]));
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
