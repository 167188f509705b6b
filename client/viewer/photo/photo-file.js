// A file someone gives -> a picture, upright and of a size to work with. It stays in this page.

import { headerOf } from "./picture-header.js";

const SIDE_MOST = 1024; // pixels that are kept
const PIXELS_MOST = 40e6; // that are decoded
const BYTES_MOST = 60e6;
const HEADER_BYTES = 1 << 20; // a photo's own notes may come first
const BEHIND = "#d8cec4"; // where a picture is transparent

/** What is wrong with a photo; `code` is one of the page's words for it. */
export class PhotoError extends Error {
  /** @param {string} code @param {Record<string, string | number>} [details] */
  constructor(code, details = {}) {
    super(code);
    this.code = code;
    this.details = details;
  }
}

/** Whether a dropped file is for the face rather than for the ear. @param {File} file */
export const isPicture = (file) =>
  file.type.startsWith("image/") || /\.(jpe?g|png|webp|gif|bmp|avif|hei[cf])$/i.test(file.name);

/**
 * A canvas with a JPEG, PNG or WebP file, upright, neither side longer than 1024. `reduced`: pixels
 * of the file for one of it; `original`: the size of the file, upright. Throws PhotoError.
 */
export async function readPhoto(file) {
  const details = { file: file.name ?? "The picture" };
  if (file.size === 0) throw new PhotoError("photo-empty", details);
  const header = headerOf(new Uint8Array(await file.slice(0, HEADER_BYTES).arrayBuffer()));
  if (header === null) throw new PhotoError("photo-unreadable", details);
  const { width, height } = header;
  const megapixels = Math.round((width * height) / 1e6);
  if (width * height > PIXELS_MOST || file.size > BYTES_MOST) {
    throw new PhotoError("photo-huge", { ...details, megapixels: megapixels || "too many" });
  }
  if (width === 0 || height === 0) throw new PhotoError("photo-unreadable", details);
  return decoded(file, width, height, details);
}

// Scaled while it is decoded. Only one side is given, for a picture that is turned upright has
// the other as its width; what is then still too long is drawn smaller.
async function decoded(file, width, height, details) {
  const options = { imageOrientation: "from-image", resizeQuality: "high" };
  const scale = Math.min(1, SIDE_MOST / Math.max(width, height));
  if (scale < 1) options.resizeWidth = Math.max(1, Math.round(width * scale));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, options);
  } catch {
    throw new PhotoError("photo-unreadable", details);
  }
  const turned = bitmap.width > bitmap.height !== width > height; // by its EXIF
  const fit = Math.min(1, SIDE_MOST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * fit));
  canvas.height = Math.max(1, Math.round(bitmap.height * fit));
  const g = canvas.getContext("2d", { willReadFrequently: true });
  g.fillStyle = BEHIND;
  g.fillRect(0, 0, canvas.width, canvas.height);
  g.imageSmoothingQuality = "high";
  g.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  canvas.original = turned ? { width: height, height: width } : { width, height };
  canvas.reduced = Math.max(width, height) / Math.max(canvas.width, canvas.height);
  return canvas;
}
