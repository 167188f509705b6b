// A head made of a sphere, with a morph target for each of moves.js.
import * as THREE from "three";
import { LIPS, MOVES, eye, hill, ramp } from "./moves.js";

const [SKIN, HAIR, LIP, TEETH, DARK] = [0xdfa988, 0x33231b, 0xb8625c, 0xefe9df, 0x2a0f12];

function colour(p) {
  const hairy = Math.max(ramp(p.y, 0.66 - 0.5 * p.x ** 2, 0.72 - 0.5 * p.x ** 2),
    ramp(0.1 - p.z + 0.3 * p.y, 0, 0.08) * ramp(p.y, -0.5, -0.4));
  const red = ramp(1 - Math.abs(p.t) / (0.12 * p.arch + 1e-6), 0, 0.25);
  const browed = ramp(hill(p, Math.sign(p.x) * 0.29, 0.41, 0.2, 0.05), 0.3, 0.6);
  const lash = 0.8 * (eye(p, Math.sign(p.x)) > 0.75) * ramp(-Math.abs(p.y - 0.115), -0.03, 0);
  const colour = new THREE.Color(SKIN).lerp(new THREE.Color(HAIR), Math.max(hairy, browed, lash));
  if (Math.abs(p.t) < 0.03 * p.arch) return colour.set(p.t > 0.005 ? TEETH : DARK).toArray();
  return colour.lerp(new THREE.Color(LIP), red).toArray();
}

function rest(x, y, z) { // a point of the sphere -> one of the head
  const p = { x: 0.82 * x * (1 - 0.12 * ramp(-y, -0.2, 0.9)), y: 1.1 * y,
    z: 0.9 * Math.sign(z) * Math.abs(z) ** 0.75 };
  p.t = p.y - LIPS;
  p.arch = z > 0 ? Math.max(0, 1 - (p.x / 0.3) ** 2) ** 0.6 : 0;
  const side = Math.sign(p.x);
  const relief = 0.1 * hill(p, 0, 0.05, 0.08, 0.22) + 0.2 * hill(p, 0, -0.13, 0.1, 0.11)
    + 0.07 * hill(p, side * 0.11, -0.17, 0.06, 0.06) + 0.05 * hill(p, side * 0.3, 0.37, 0.25, 0.09)
    + 0.05 * hill(p, side * 0.36, -0.12, 0.2, 0.2) + 0.1 * hill(p, 0, -0.86, 0.3, 0.16)
    + 0.06 * hill(p, 0, LIPS, 0.26, 0.12) - (0.2 - 0.3 * (Math.abs(p.x) - 0.2)) * eye(p, side);
  const shut = Math.exp(-((p.t / 0.06) ** 2)) * hill(p, 0, p.y, 0.36, 1); // rows that meet there
  return { p, at: [p.x, LIPS + p.t * (1 - 0.98 * shut), p.z + relief] };
}

export function makeHead() {
  const geometry = new THREE.SphereGeometry(1, 128, 200, -Math.PI / 2);
  const { array: ball, count } = geometry.attributes.position;
  const points = Array.from({ length: count }, (_, i) => rest(...ball.slice(3 * i, 3 * i + 3)));
  const floats = (of) => new THREE.Float32BufferAttribute(points.flatMap(of), 3);
  const shaped = (move) => {
    const shape = geometry.clone();
    shape.setAttribute("position", floats(({ p, at }) => move(p).map((d, k) => at[k] + d)));
    shape.computeVertexNormals();
    return shape.attributes;
  };
  const { position, normal } = shaped(() => [0, 0, 0]);
  geometry.setAttribute("color", floats(({ p }) => colour(p)));
  geometry.morphTargetsRelative = true;
  const morphs = { position: [], normal: [] };
  for (const [name, move] of Object.entries(MOVES)) {
    for (const [end, side] of move.length > 1 ? [["Left", 1], ["Right", -1]] : [["", 0]]) {
      const moves = floats(({ p }) => move(p, side));
      moves.name = name + end;
      morphs.position.push(moves);
      const turned = shaped((p) => move(p, side)).normal;
      turned.array.forEach((_, i, n) => { n[i] -= normal.array[i]; });
      morphs.normal.push(turned);
    }
  }
  geometry.setAttribute("position", position).setAttribute("normal", normal);
  geometry.morphAttributes = morphs;
  const skin = new THREE.MeshStandardMaterial({ vertexColors: true, roughness: 0.65 });
  const head = new THREE.Mesh(geometry, skin);
  const add = (shape, color, x, y, z, sx = 1, roughness = 0.65) => {
    const part = new THREE.Mesh(shape, new THREE.MeshStandardMaterial({ color, roughness }));
    part.position.set(x, y, z);
    part.scale.x = sx;
    head.add(part);
  };
  for (const side of [-1, 1]) {
    add(new THREE.SphereGeometry(0.18, 32, 32), 0xf6f4f0, side * 0.29, 0.15, 0.6, 1, 0.2);
    add(new THREE.SphereGeometry(0.12, 32, 32), 0x4a6b7c, side * 0.29, 0.15, 0.668, 1, 0.2);
    add(new THREE.SphereGeometry(0.07, 32, 32), 0x101418, side * 0.29, 0.15, 0.722, 1, 0.2);
    add(new THREE.SphereGeometry(0.2, 32, 32), SKIN, side * 0.8, 0, -0.05, 0.4);
  }
  add(new THREE.CylinderGeometry(0.44, 0.5, 1.2, 48), SKIN, 0, -1.3, -0.15);
  return head;
}
