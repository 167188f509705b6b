// Soft light and shadow.

/** A round patch of colour that fades outwards to `outside`, the same colour but transparent. */
export function soft(g, x, y, radius, inside, outside) {
  const fill = g.createRadialGradient(x, y, 0, x, y, radius);
  fill.addColorStop(0, inside);
  fill.addColorStop(1, outside);
  g.fillStyle = fill;
  g.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
}
