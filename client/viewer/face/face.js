// The drawn face: 68 landmarks in, a picture on a canvas out. It knows nothing of time,
// sound or the network. Everything is drawn in pixels of the 256 x 256 crop.

import { closedCurve, openCurve, pick, tapered } from "./curves.js";
import { drawBrows, drawEyes } from "./face-eyes.js";
import { drawHair, drawHairBehind, drawHairShadow } from "./face-hair.js";
import { drawMouth } from "./face-mouth.js";
import { drawNose } from "./face-nose.js";
import { frameOf, jawLine, mirrored, smileOf } from "./head-frame.js";
import { colours, dotColours } from "./palette.js";
import { soft } from "./shade.js";

const VIEW = { x: -32, y: -58, width: 320, height: 330 };
const DENSITY_MOST = 2.5;

const SKULL_RIGHT = [1.0, 0.34, 0.96, 0.66, 0.82, 0.96, 0.56, 1.18];
const SKULL = [...SKULL_RIGHT, 0, 1.28, ...mirrored(SKULL_RIGHT)];
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
    const { width, height } = this.canvas;
    const side = Math.min(width, height); // the bust stands on the canvas' lower edge
    this.picture = { x: (width - side) / 2, y: height - side, width: side, height: side };
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
    drawHairBehind(g, place);
    drawBust(g, place);
    drawHead(g, points, place);
    drawNose(g, points);
    drawSmile(g, points);
    drawEyes(g, points, colours);
    drawMouth(g, points, colours);
    drawBrows(g, points, colours);
    drawHair(g, place);
    if (this.dots) drawDots(g, points);
  }
}

function drawBust(g, place) {
  // Shoulders and neck keep still while the jaw moves.
  const shirt = g.createLinearGradient(0, 236, 0, 280);
  shirt.addColorStop(0, colours.shirt);
  shirt.addColorStop(1, colours.shirtLow);
  const neck = new Path2D(
    "M84 150 C86 200 86 214 80 226 L128 262 L176 226 C170 214 170 200 172 150Z",
  );
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
  drawHairShadow(g, place);
  // Light comes back from below along the edge of the jaw.
  g.strokeStyle = colours.rim;
  g.lineWidth = 3;
  g.stroke(openCurve(jaw));
  g.restore();
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
