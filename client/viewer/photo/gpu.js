// Whether WebGL is drawn by a graphics card, or by the processor in its place.

/** @param {WebGL2RenderingContext | null} gl @returns {boolean} */
export function hasGpu(gl) {
  const names = gl?.getExtension("WEBGL_debug_renderer_info");
  const card = gl ? String(gl.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER)) : "";
  return card !== "" && !/swiftshader|llvmpipe|software/i.test(card);
}
