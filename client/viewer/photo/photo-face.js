// A photo that speaks: 68 landmarks in its pixels in, the warped picture on a canvas out. Like the
// drawn face it knows nothing of time, sound or the network.

import { FaceMesh } from "./face-mesh.js";
import { axesOf, lipGap } from "../face/landmarks.js";
import { hasGpu } from "./gpu.js";
import { programs } from "./photo-shaders.js";
import { dots, eyes, lash, mouth, seam } from "./photo-shapes.js";
import { lightOf, viewOf } from "./photo-light.js";

const DENSITY_MOST = 2;
const FINER_THAN_PHOTO = 1.5; // pixels of the screen a pixel of the photo, at most
const WITHOUT_CARD = 320_000; // pixels of the canvas, where the processor draws them
const CORNER = 0.035; // of the picture's width
const MARGIN = 0.03; // of the canvas, on each side

export class PhotoFace {
  /** `photo`: upright; `seen`: its landmarks (136,). Throws where the browser has no WebGL 2. */
  constructor(table, photo, seen) {
    const canvas = (this.canvas = document.createElement("canvas"));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "A portrait that moves with your voice");
    this.photo = photo;
    this.seen = Float32Array.from(seen);
    this.dots = false;
    this.mesh = new FaceMesh(table, seen);
    this.light = lightOf(photo, seen);
    this.frame = viewOf(photo, axesOf(seen));
    this.points = this.seen;
    // Edges are soft without it, and a machine without a graphics card draws twice as fast.
    const options = { antialias: false, preserveDrawingBuffer: true };
    this.gl = canvas.getContext("webgl2", options);
    if (!this.gl) throw new Error("this browser has no WebGL 2");
    this.hasGpu = hasGpu(this.gl);
    canvas.addEventListener("webglcontextlost", (event) => this.gl && event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.#prepare();
      this.resize();
      this.draw(this.points);
    });
    this.#prepare();
    this.resize();
  }

  /** Never to be drawn again: what it holds of the graphics card is given back. */
  close() {
    const { gl } = this;
    this.gl = null;
    gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.canvas.remove();
  }

  /** Fits the drawing buffer to the canvas' size on the screen. */
  resize() {
    const { canvas, gl, frame } = this;
    const [width, height] = [frame.right - frame.left, frame.bottom - frame.top];
    const { clientWidth, clientHeight } = canvas;
    const room = 1 - 2 * MARGIN;
    const fits = room * Math.min(clientWidth / width, clientHeight / height) || 1;
    const most = this.hasGpu ? Infinity : WITHOUT_CARD;
    const density = Math.min(
      DENSITY_MOST, globalThis.devicePixelRatio || 1, Math.max(0.5, FINER_THAN_PHOTO / fits),
      Math.sqrt(most / (clientWidth * clientHeight || 1)),
    );
    canvas.width = Math.max(1, Math.round(clientWidth * density));
    canvas.height = Math.max(1, Math.round(clientHeight * density));
    const scale = room * Math.min(canvas.width / width, canvas.height / height);
    const [sx, sy] = [(2 * scale) / canvas.width, (-2 * scale) / canvas.height];
    const [cx, cy] = [(frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2];
    this.pixel = 1 / scale; // of the screen, in the photo's
    this.view = [sx, sy, -cx * sx, -cy * sy];
    const x = Math.floor((canvas.width - scale * width) / 2);
    const y = Math.floor((canvas.height - scale * height) / 2);
    this.picture = { x, y, width: canvas.width - 2 * x, height: canvas.height - 2 * y };
    gl.viewport(0, 0, canvas.width, canvas.height);
  }

  /** @param {Float32Array} points (136,) in pixels of the photo */
  draw(points) {
    const { gl, mesh, light } = this;
    this.points = points;
    if (gl.isContextLost()) return;
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const { size } = mesh.axes;
    const places = mesh.deform(points);
    const shut = mesh.closed(points);
    this.#shape("photo", eyes(mesh, points, shut));
    this.#shape("mouth", mouth(mesh, places));
    this.#face(places);
    const gap = Math.max(0, lipGap(points)) / size;
    this.#shape("stroke", seam(mesh, places, gap, this.pixel), light.seam);
    for (const side of ["right", "left"]) {
      this.#shape("stroke", lash(mesh, places, side, shut[side === "right" ? 0 : 1]), light.lash);
    }
    if (this.dots) this.#shape("dot", dots(points, size, this.pixel));
  }

  #prepare() {
    const { gl, mesh, photo } = this;
    this.programs = programs(gl);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, photo);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    this.face = gl.createVertexArray();
    gl.bindVertexArray(this.face);
    this.facePlaces = this.#attribute(0, 2, null, 4 * mesh.out.length);
    const what = new Float32Array(4 * mesh.count);
    for (let i = 0; i < mesh.count; i++) what.set(mesh.texture.subarray(2 * i, 2 * i + 2), 4 * i);
    this.#attribute(1, 4, what);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.triangles, gl.STATIC_DRAW);
    this.loose = gl.createVertexArray();
    gl.bindVertexArray(this.loose);
    this.loosePlaces = this.#attribute(0, 2, null, 4);
    this.looseWhat = this.#attribute(1, 4, null, 4);
  }

  #attribute(index, width, data, bytes = 0) {
    const { gl } = this;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data ?? bytes, data ? gl.STATIC_DRAW : gl.STREAM_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribPointer(index, width, gl.FLOAT, false, 0, 0);
    return buffer;
  }

  #use(name, ink) {
    const { gl, frame, light, photo } = this;
    const { program, at } = this.programs[name];
    gl.useProgram(program);
    gl.uniform4fv(at.view, this.view);
    gl.uniform4f(at.frame, frame.left, frame.top, frame.right, frame.bottom);
    gl.uniform1f(at.corner, CORNER * (frame.right - frame.left));
    gl.uniform2f(at.size, photo.width, photo.height);
    gl.uniform3fv(at.flesh, light.flesh);
    gl.uniform3fv(at.light, light.teeth);
    gl.uniform3fv(at.ink, ink ?? light.seam);
  }

  #face(places) {
    const { gl, mesh } = this;
    this.#use("photo");
    gl.bindVertexArray(this.face);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.facePlaces);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, places);
    gl.drawElements(gl.TRIANGLES, mesh.triangles.length, gl.UNSIGNED_SHORT, 0);
  }

  /** A shape of its own triangles. @param {{places: number[], what: number[]} | null} shape */
  #shape(name, shape, ink) {
    if (shape === null) return;
    const { gl } = this;
    this.#use(name, ink);
    gl.bindVertexArray(this.loose);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.loosePlaces);
    gl.bufferData(gl.ARRAY_BUFFER, Float32Array.from(shape.places), gl.STREAM_DRAW);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.looseWhat);
    gl.bufferData(gl.ARRAY_BUFFER, Float32Array.from(shape.what), gl.STREAM_DRAW);
    gl.drawArrays(gl.TRIANGLES, 0, shape.places.length / 2);
  }
}
