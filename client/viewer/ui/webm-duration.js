// Browsers record WebM as a stream, whose header does not say how long it is, so players show no
// length. This puts it in: element Duration of the segment's Info (RFC 9559, section 5.1.2).

const INFO = [0x15, 0x49, 0xa9, 0x66];
const DURATION = [0x44, 0x89];
const HEAD_BYTES = 4096; // Info comes early
const SIZE_BYTES = 8;

/** Where these bytes begin between two places, or -1. */
function find(bytes, pattern, from, to) {
  for (let i = from; i + pattern.length <= to; i++) {
    if (pattern.every((byte, k) => bytes[i + k] === byte)) return i;
  }
  return -1;
}

/** A number of variable width: its first bit that is set says how many bytes it has. */
function readSize(bytes, at) {
  const width = Math.clz32(bytes[at]) - 23;
  let value = bytes[at] & (0xff >> width);
  for (let k = 1; k < width; k++) value = value * 256 + bytes[at + k];
  return { width, value };
}

function writeSize(value) {
  const bytes = new Uint8Array(SIZE_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  bytes[0] = 0x01; // eight bytes wide
  return bytes;
}

function writeDuration(seconds) {
  const bytes = new Uint8Array(DURATION.length + 1 + 8);
  bytes.set([...DURATION, 0x88]); // of eight bytes
  new DataView(bytes.buffer).setFloat64(DURATION.length + 1, seconds * 1000); // in milliseconds
  return bytes;
}

/**
 * @param {Blob} blob as the browser recorded it @param {number} seconds how long it is
 * @returns {Promise<Blob>} the same with its length; as it was, where it has one or is no WebM
 */
export async function withDuration(blob, seconds) {
  const head = new Uint8Array(await blob.slice(0, HEAD_BYTES).arrayBuffer());
  const info = find(head, INFO, 0, head.length);
  if (info < 0) return blob;
  const from = info + INFO.length;
  const { width, value } = readSize(head, from);
  const end = from + width + value;
  if (end > head.length || find(head, DURATION, from + width, end) >= 0) return blob;
  const duration = writeDuration(seconds);
  const parts = [
    head.slice(0, from), writeSize(value + duration.length), head.slice(from + width, end),
    duration, blob.slice(end),
  ];
  return new Blob(parts, { type: blob.type });
}
