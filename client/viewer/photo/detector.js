// Finds the 68 points of the one face of a photo, in this browser.

import { PhotoError } from "./photo-file.js";
import { axesOf } from "../face/landmarks.js";

const WAIT_MOST_MS = 90_000; // a slow machine without a graphics card
const SAME = 0.3; // overlap beyond which two finds are one face
const BACKGROUND = 0.06; // of the largest face's area: a smaller one is far behind
const SMALL = 46; // pixels between the outer corners of the eyes
const TURNED = 0.17; // of the way from eye to eye that the nose is off the middle
const UNEVEN = 0.45; // of the jaw's two sides
const TILTED = 0.6; // radians
const FLAT = 0.5; // of the way from eye to eye that the chin is below them

/**
 * The points (136,) in pixels of the photo. Throws PhotoError where there is not one face, seen
 * from the front and large enough, or no finder.
 */
export async function findFace(photo) {
  const worker = new Worker(new URL("./detector-worker.js", import.meta.url), { type: "module" });
  try {
    const bitmap = await createImageBitmap(photo);
    const { boxes } = await request(worker, { bitmap }, [bitmap]);
    const { points } = await request(worker, { box: onlyFace(boxes) });
    checkPose(points);
    return points;
  } finally {
    worker.terminate();
  }
}

function request(worker, message, transfer = []) {
  return new Promise((done, failed) => {
    const fail = (code, why) => {
      const error = new PhotoError(code);
      error.cause = why;
      failed(error);
    };
    const late = setTimeout(() => fail("photo-failed", "too slow"), WAIT_MOST_MS);
    worker.onerror = (event) => {
      event.preventDefault();
      fail("photo-no-finder", event.message);
    };
    worker.onmessage = ({ data }) => {
      clearTimeout(late);
      if (data.missing) fail("photo-no-finder");
      else if (data.failed) fail("photo-failed", data.failed);
      else done(data);
    };
    worker.postMessage(message, transfer);
  });
}

/** The one of these boxes that is a face of its own. Throws PhotoError for none, or several. */
export function onlyFace(found) {
  const area = ({ width, height }) => width * height;
  const faces = [];
  for (const face of found.toSorted((a, b) => area(b) - area(a))) {
    const known = faces.some((other) => overlap(face, other) > SAME);
    if (!known && area(face) > BACKGROUND * area(faces[0] ?? face)) faces.push(face);
  }
  if (faces.length === 0) throw new PhotoError("photo-no-face");
  if (faces.length > 1) throw new PhotoError("photo-many-faces", { faces: faces.length });
  return faces[0];
}

/** The shared part of two boxes, of the smaller one. */
function overlap(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / Math.min(a.width * a.height, b.width * b.height);
}

/** Throws PhotoError for a face that is too small, or not seen from the front. */
export function checkPose(points) {
  const { size, right, down, middle } = axesOf(points);
  if (!(size >= SMALL)) throw new PhotoError("photo-small-face");
  const along = (i, [u, v]) =>
    ((points[2 * i] - middle[0]) * u + (points[2 * i + 1] - middle[1]) * v) / size;
  const nose = along(30, right);
  const [near, far] = [2, 14].map((jaw) => Math.abs(along(jaw, right) - nose));
  const uneven = Math.abs(far - near) / (far + near);
  const tilt = Math.abs(Math.atan2(right[1], right[0]));
  const turned = Math.abs(nose) > TURNED || uneven > UNEVEN;
  if (turned || tilt > TILTED || along(8, down) < FLAT) throw new PhotoError("photo-turned");
}
