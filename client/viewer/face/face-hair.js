// Hair of the drawn face: it has no landmarks of its own and follows the head.
// `place` brings points of the head's frame to the picture (head-frame.js).

import { closedCurve, spline, tapered } from "./curves.js";
import { mirrored } from "./head-frame.js";
import { colours } from "./palette.js";

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

/** What is seen of the hair behind the head. */
export function drawHairBehind(g, place) {
  const hair = g.createLinearGradient(60, -60, 200, 120);
  hair.addColorStop(0, colours.hairLight);
  hair.addColorStop(1, colours.hairDark);
  g.fillStyle = hair;
  g.fill(closedCurve(place(HAIR_BACK)));
}

/** The shadow that the fringe casts on the forehead. */
export function drawHairShadow(g, place) {
  g.fillStyle = colours.hairShadow;
  g.fill(fringe(place, -0.07));
}

function fringe(place, shift) {
  const line = place(FRINGE.map((v, i) => (i % 2 === 0 ? v : v + shift)));
  const over = place(OVER_HAIR);
  const path = spline(new Path2D(), line);
  spline(path, [line.at(-2), line.at(-1), ...over, line[0], line[1]], { on: true });
  path.closePath();
  return path;
}

/** The hair before the forehead. */
export function drawHair(g, place) {
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
      -0.5 - 0.5 * s, 0.76 + 0.8 * s, -0.86 - 0.36 * s, 0.54 + 0.66 * s,
      -1.0 - 0.22 * s, 0.2 + 0.3 * s,
    ];
    g.fillStyle = colours.strand;
    g.fill(tapered(place(strand), [0.2, 1.4, 1.9, 1.2, 0.2]));
  }
  for (let k = 0; k < 4; k++) {
    const s = k * 0.09;
    const strand = [
      0.45 + 0.6 * s, 1.04 + 0.5 * s, 0.72 + 0.6 * s, 0.8 + 0.5 * s, 1.0 + 0.22 * s, 0.3,
    ];
    g.fill(tapered(place(strand), [0.2, 1.6, 0.2]));
  }
  g.restore();
}
