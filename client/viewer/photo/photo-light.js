// What the face takes from its photo: its light, and the part of it that is shown.

import { axesOf } from "../face/landmarks.js";

const WIDE = 4.6; // the picture is shown so wide at most, in distances between the eyes,
const TALL = 5.6; // and so high

/** Colours for what the photo does not show, 0..1 each. */
export function lightOf(photo, points) {
  const copy = document.createElement("canvas");
  copy.width = photo.width;
  copy.height = photo.height;
  const g = copy.getContext("2d", { willReadFrequently: true });
  g.drawImage(photo, 0, 0);
  const { size } = axesOf(points);
  const around = (x, y, reach) => {
    const side = Math.max(1, Math.round(reach * size));
    const left = Math.max(0, Math.min(photo.width - side, Math.round(x - side / 2)));
    const top = Math.max(0, Math.min(photo.height - side, Math.round(y - side / 2)));
    const { data } = g.getImageData(left, top, side, side);
    const sum = [0, 0, 0];
    for (let i = 0; i < data.length; i += 4) for (let k = 0; k < 3; k++) sum[k] += data[i + k];
    return sum.map((v) => v / (data.length / 4) / 255);
  };
  const point = (...indices) => [0, 1].map((k) =>
    indices.reduce((sum, i) => sum + points[2 * i + k], 0) / indices.length);
  const lips = around(...point(57, 66, 58, 56), 0.06);
  const cheeks = [[2, 31], [14, 35]].map(([jaw, nose]) => around(...point(jaw, nose), 0.14));
  const skin = cheeks[0].map((v, k) => (v + cheeks[1][k]) / 2);
  const bright = Math.max(0.25, Math.min(1, 1.25 * Math.max(...skin)));
  const flesh = [0, 1, 2].map((k) => 0.5 * lips[k] + 0.5 * bright * [0.74, 0.33, 0.31][k]);
  const tint = skin.map((v) => 0.85 + 0.15 * (v / Math.max(...skin)));
  return {
    flesh,
    teeth: tint.map((v) => v * bright),
    seam: lips.map((v, k) => v * [0.36, 0.26, 0.26][k]),
    lash: skin.map((v) => 0.16 * v),
  };
}

/** The part of the photo that is shown: all of it, or where the face is small, what is round it. */
export function viewOf(photo, { size, at }) {
  const width = Math.min(photo.width, WIDE * size);
  const height = Math.min(photo.height, TALL * size);
  const [x, y] = at(0, 0.35);
  const left = Math.max(0, Math.min(photo.width - width, x - width / 2));
  const top = Math.max(0, Math.min(photo.height - height, y - height / 2));
  return { left, top, right: left + width, bottom: top + height };
}
