// Mouth of the drawn face: lips, and behind them teeth and tongue as the inner lips part.

import { between, mixed, openCurve, pick, spline, tapered } from "./curves.js";
import { lipGap } from "./landmarks.js";
import { soft } from "./shade.js";

const OUTER_TOP = [48, 49, 50, 51, 52, 53, 54];
const OUTER_LOW = [54, 55, 56, 57, 58, 59, 48];
const INNER_TOP = [60, 61, 62, 63, 64];
const INNER_LOW = [64, 65, 66, 67, 60];
const back = (indices) => indices.toReversed();

/** @param {CanvasRenderingContext2D} g @param {Float32Array} points @param {object} colours */
export function drawMouth(g, points, colours) {
  const gap = Math.max(0, lipGap(points));
  around(g, points, colours);
  if (gap > 0.4) interior(g, points, gap, colours);
  upperLip(g, points, colours);
  lowerLip(g, points, colours);
  seam(g, points, gap, colours);
}

function around(g, points, colours) {
  const [left, low, right] = [48, 57, 54].map((i) => [points[2 * i], points[2 * i + 1]]);
  g.save();
  g.translate((left[0] + right[0]) / 2, low[1] + 5);
  g.scale(1, 0.3);
  soft(g, 0, 0, 0.34 * (right[0] - left[0]), colours.underLip, colours.underLipOut);
  g.restore();
  for (const [corner, side] of [[left, -1], [right, 1]]) {
    const dimple = g.createRadialGradient(...corner, 0, corner[0] + side, corner[1], 5);
    dimple.addColorStop(0, colours.corner);
    dimple.addColorStop(1, colours.underLipOut);
    g.fillStyle = dimple;
    g.fillRect(corner[0] - 6, corner[1] - 6, 12, 12);
  }
}

function interior(g, points, gap, colours) {
  const top = pick(points, INNER_TOP);
  const low = pick(points, INNER_LOW);
  g.save();
  g.clip(between(top, low));
  const [x0, x1] = [top[0], top[8]];
  const [yTop, yLow] = [top[5], low[5]];
  const dark = g.createLinearGradient(0, yTop, 0, yLow);
  dark.addColorStop(0, colours.throat);
  dark.addColorStop(1, colours.mouth);
  g.fillStyle = dark;
  g.fillRect(x0 - 4, yTop - 20, x1 - x0 + 8, yLow - yTop + 40);
  const open = Math.max(0, Math.min(1, (gap - 1) / 5));
  tongue(g, x0, x1, yLow, gap, open, colours);
  g.globalAlpha = Math.max(0, Math.min(1, (gap - 0.8) / 1.6));
  teeth(g, top, gap, colours);
  if (gap > 9) lowerTeeth(g, low, gap, colours);
  g.restore();
}

function tongue(g, x0, x1, yLow, gap, open, colours) {
  const width = 0.62 * (x1 - x0);
  const x = (x0 + x1) / 2;
  const height = 0.42 * gap + 1.5;
  const fill = g.createRadialGradient(x, yLow - 0.3 * height, 1, x, yLow, 0.7 * width);
  fill.addColorStop(0, colours.tongue);
  fill.addColorStop(1, colours.tongueEdge);
  g.globalAlpha = open;
  g.fillStyle = fill;
  g.beginPath();
  g.ellipse(x, yLow + 1, width / 2, height, 0, 0, 2 * Math.PI);
  g.fill();
}

// The upper teeth hang on the skull: a band beneath the upper lip that the lip uncovers.
function teeth(g, top, gap, colours) {
  const height = Math.min(7, 0.5 * gap + 0.6);
  const [x0, x1] = [top[0], top[8]];
  const inset = 0.05 * (x1 - x0);
  const edge = [];
  for (let k = 0; k <= 6; k++) {
    const u = k / 6;
    const y = top[5] + height * (1 - 0.65 * (2 * u - 1) ** 2);
    edge.push(x1 - inset - u * (x1 - x0 - 2 * inset), y);
  }
  const path = new Path2D();
  path.moveTo(x0 + inset, top[5] - 12);
  path.lineTo(x1 - inset, top[5] - 12);
  path.lineTo(edge[0], edge[1]);
  spline(path, edge, { on: true });
  path.closePath();
  const fill = g.createLinearGradient(x0, 0, x1, 0);
  fill.addColorStop(0.05, colours.toothShade);
  fill.addColorStop(0.35, colours.tooth);
  fill.addColorStop(0.65, colours.tooth);
  fill.addColorStop(0.95, colours.toothShade);
  g.fillStyle = fill;
  g.fill(path);
  g.strokeStyle = colours.lipOnTeeth;
  g.lineWidth = 2.4;
  g.stroke(openCurve(top));
}

function lowerTeeth(g, low, gap, colours) {
  const height = Math.min(3.4, 0.28 * (gap - 9));
  const [x1, x0] = [low[0], low[8]];
  const inset = 0.2 * (x1 - x0);
  const path = new Path2D();
  path.moveTo(x0 + inset, low[5] + 8);
  path.quadraticCurveTo((x0 + x1) / 2, low[5] - 2 * height, x1 - inset, low[5] + 8);
  path.closePath();
  g.fillStyle = colours.toothShade;
  g.fill(path);
}

function upperLip(g, points, colours) {
  const outer = pick(points, OUTER_TOP);
  const inner = pick(points, back(INNER_TOP));
  const low = Math.max(outer[1], inner[5]);
  const fill = g.createLinearGradient(0, outer[5], 0, low + 2);
  fill.addColorStop(0, colours.upperLip);
  fill.addColorStop(1, colours.upperLipLow);
  g.fillStyle = fill;
  const lip = lipShape(outer, inner);
  g.fill(lip);
  g.strokeStyle = colours.lipRim;
  g.lineWidth = 0.7;
  g.stroke(openCurve(outer));
}

function lowerLip(g, points, colours) {
  const outer = pick(points, OUTER_LOW);
  const inner = pick(points, back(INNER_LOW));
  const [y0, y1] = [inner[5], outer[7]];
  const fill = g.createLinearGradient(0, y0, 0, y1);
  fill.addColorStop(0, colours.lowerLipTop);
  fill.addColorStop(0.4, colours.lowerLip);
  fill.addColorStop(1, colours.lowerLipLow);
  g.fillStyle = fill;
  const lip = lipShape(outer, inner);
  g.fill(lip);
  g.save();
  g.clip(lip);
  const x = (outer[0] + outer[12]) / 2;
  g.translate(x - 2, y0 + 0.42 * (y1 - y0));
  g.scale(1, 0.24);
  const reach = 0.3 * Math.abs(outer[0] - outer[12]);
  const shine = g.createRadialGradient(0, 0, 0, 0, 0, reach);
  shine.addColorStop(0, colours.lipShine);
  shine.addColorStop(1, colours.lipShineOut);
  g.fillStyle = shine;
  g.fillRect(-reach, -reach, 2 * reach, 2 * reach);
  g.restore();
}

function lipShape(outer, inner) {
  const path = spline(new Path2D(), outer);
  path.lineTo(inner[0], inner[1]);
  spline(path, inner, { on: true });
  path.closePath();
  return path;
}

// Where the lips meet; it fades as they part.
function seam(g, points, gap, colours) {
  const top = pick(points, INNER_TOP);
  const low = pick(points, back(INNER_LOW));
  const ends = pick(points, [48, 54]);
  const line = mixed(top, low, 0.5);
  const whole = [ends[0] + 0.6, ends[1], ...line, ends[2] - 0.6, ends[3]];
  g.fillStyle = colours.seam;
  g.globalAlpha = Math.max(0, 1 - gap / 2.5);
  g.fill(tapered(whole, [0.7, 1.2, 1.1, 0.9, 1.1, 1.2, 0.7]));
  g.globalAlpha = 1;
}
