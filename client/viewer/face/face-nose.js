// Nose of the drawn face: mostly light and shadow.

import { openCurve, pick } from "./curves.js";
import { colours } from "./palette.js";
import { soft } from "./shade.js";

/** @param {CanvasRenderingContext2D} g @param {Float32Array} points (136,) */
export function drawNose(g, points) {
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
    const wing = [x + side * 0.5, y - 8, x + side * 3.6, y - 3.5, x + side * 2.4, y + 1];
    g.stroke(openCurve([...wing, x - side, y + 1.2]));
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
