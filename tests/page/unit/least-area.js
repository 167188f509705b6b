// Frames of the face in photo.test.js as JSON on stdin -> the least area of a triangle, on stdout.

import { readFileSync } from "node:fs";

import { PLACED, TABLE, leastOf } from "./faces.js";
import { FaceMesh } from "../../../client/viewer/photo/face-mesh.js";

const mesh = new FaceMesh(TABLE, PLACED);
const frames = JSON.parse(readFileSync(0, "utf8"));
console.log(Math.min(...frames.map((frame) => leastOf(mesh, Float32Array.from(frame)))));
