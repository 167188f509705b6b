// Looks for faces and their 68 points beside the page, which goes on meanwhile. The finder is
// another's (@vladmandic/face-api, MIT) and not part of this page: `python -m client.parts` lays
// it into vendor/.

import { hasGpu } from "./gpu.js";

const VENDOR = new URL("../vendor/", import.meta.url).href;
const SIZES = [320, 544, 224]; // of the picture that it searches: usual, far away, close up
const SCORE = 0.4;
// Boxes round the found one, as shifts and a scale of it: the mean of their points is steadier.
const CROPS = [[0, 0, 1], [0.03, 0.02, 1.05], [-0.03, 0.02, 1.05]];

const library = (async () => {
  const api = await import(`${VENDOR}face-api.esm.js`);
  class None {}
  api.env.setEnv({
    Canvas: OffscreenCanvas,
    CanvasRenderingContext2D: OffscreenCanvasRenderingContext2D,
    Image: None,
    ImageData,
    Video: None,
    createCanvasElement: () => new OffscreenCanvas(1, 1),
    createImageElement: () => new None(),
    createVideoElement: () => new None(),
    fetch: (...request) => fetch(...request),
  });
  await chooseBackend(api.tf);
  await api.nets.tinyFaceDetector.loadFromUri(VENDOR);
  await api.nets.faceLandmark68Net.loadFromUri(VENDOR);
  return api;
})();
library.catch(() => {}); // told to whoever asks

// A graphics card that is only pretended is slower than none.
async function chooseBackend(tf) {
  const real = hasGpu(new OffscreenCanvas(1, 1).getContext("webgl2"));
  tf.setWasmPaths(VENDOR);
  for (const name of real ? ["webgl", "wasm", "cpu"] : ["wasm", "cpu"]) {
    if (await tf.setBackend(name).catch(() => false)) break;
  }
  await tf.ready();
}

async function search(api, photo) {
  for (const inputSize of SIZES) {
    const options = new api.TinyFaceDetectorOptions({ inputSize, scoreThreshold: SCORE });
    const found = await api.detectAllFaces(photo, options);
    if (found.length > 0) {
      return found.map(({ box: { x, y, width, height } }) => ({ x, y, width, height }));
    }
  }
  return [];
}

async function landmarks(api, photo, box) {
  const sum = new Float32Array(136);
  for (const [dx, dy, scale] of CROPS) {
    const [width, height] = [box.width * scale, box.height * scale];
    const left = Math.floor(Math.max(0, box.x + dx * box.width + (box.width - width) / 2));
    const top = Math.floor(Math.max(0, box.y + dy * box.height + (box.height - height) / 2));
    const part = new OffscreenCanvas(
      Math.floor(Math.min(width, photo.width - left)),
      Math.floor(Math.min(height, photo.height - top)),
    );
    part.getContext("2d").drawImage(photo, -left, -top);
    const { positions } = await api.detectFaceLandmarks(part);
    positions.forEach(({ x, y }, i) => {
      sum[2 * i] += (x + left) / CROPS.length;
      sum[2 * i + 1] += (y + top) / CROPS.length;
    });
  }
  return sum;
}

/** In: {bitmap}, or {box} of the bitmap before. Out: {boxes}, {points}, {missing} or {failed}. */
let photo = null;
onmessage = async ({ data: { bitmap, box } }) => {
  const api = await library.catch(() => null);
  if (api === null) return postMessage({ missing: true });
  try {
    if (bitmap) {
      photo = new OffscreenCanvas(bitmap.width, bitmap.height);
      photo.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
      bitmap.close();
      postMessage({ boxes: await search(api, photo) });
    } else postMessage({ points: await landmarks(api, photo, box) });
  } catch (error) {
    postMessage({ failed: String(error) });
  }
};
