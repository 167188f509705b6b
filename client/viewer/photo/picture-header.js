// What the first bytes of a picture say of it, so that one too large is never decoded.

const JPEG = "jpeg";
const PNG = "png";
const WEBP = "webp";

/** {kind, width, height} of a file that begins so, or null; width 0 where it says no size. */
export function headerOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (bytes.length >= 24 && text(0, 8) === "\x89PNG\r\n\x1a\n") {
    return { kind: PNG, width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (bytes.length >= 3 && text(0, 3) === "\xff\xd8\xff") return { kind: JPEG, ...jpegSize(view) };
  if (bytes.length >= 30 && text(0, 4) === "RIFF" && text(8, 4) === "WEBP") {
    return { kind: WEBP, ...webpSize(view, text(12, 4)) };
  }
  return null;
}

const NO_SIZE = { width: 0, height: 0 };

// Segment by segment to the frame header, SOF0 to SOF15 without DHT, JPG and DAC.
function jpegSize(view) {
  for (let at = 2; at + 9 < view.byteLength; ) {
    if (view.getUint8(at) !== 0xff) return NO_SIZE;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1; // a fill byte
      continue;
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    }
    const alone = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8);
    at += alone ? 2 : 2 + view.getUint16(at + 2);
  }
  return NO_SIZE;
}

function webpSize(view, chunk) {
  const three = (at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
  if (chunk === "VP8X") return { width: three(24) + 1, height: three(27) + 1 };
  if (chunk === "VP8L") {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  if (chunk !== "VP8 ") return NO_SIZE;
  return {
    width: view.getUint16(26, true) & 0x3fff,
    height: view.getUint16(28, true) & 0x3fff,
  };
}
