// The programs that draw the face of a photo, in WebGL 2. Places are in pixels of the photo; `view` takes
// them to the screen. Colours are multiplied by their alpha.

const VERTEX = `#version 300 es
uniform vec4 view; // scale x, y, shift x, y
in vec2 place;
in vec4 what;
out vec2 at;
out vec4 given;
void main() {
  at = place;
  given = what;
  gl_Position = vec4(place * view.xy + view.zw, 0.0, 1.0);
  gl_PointSize = 1.0;
}`;

// The frame of the picture: round corners, soft by a pixel of the screen.
const FRAME = `#version 300 es
precision highp float;
uniform vec4 frame; // of the photo: left, top, right, bottom
uniform float corner;
in vec2 at;
in vec4 given;
out vec4 colour;
float framed() {
  vec2 half_size = (frame.zw - frame.xy) / 2.0;
  vec2 q = abs(at - (frame.xy + frame.zw) / 2.0) - half_size + corner;
  float beyond = length(max(q, 0.0)) + min(max(q.x, q.y), 0.0) - corner;
  float soft = max(fwidth(beyond), 1e-4);
  return 1.0 - smoothstep(-soft, 0.0, beyond);
}`;

const PHOTO = `${FRAME}
uniform sampler2D photo;
uniform vec2 size;
void main() {
  // given: place in the photo, shade, unused
  vec3 seen = texture(photo, given.xy / size).rgb * (1.0 - given.z);
  colour = vec4(seen, 1.0) * framed();
}`;

// Behind the lips. given: across -1..1, below the upper lip, above the lower lip (both in
// distances between the eyes), the opening at the middle.
const MOUTH = `${FRAME}
uniform vec3 flesh; // of the lips, darkened by the photo's own light
uniform vec3 light; // of the photo, on the teeth
float tooth_gaps(float s, float wide) {
  // Incisors are wide, those beside them narrower as they turn away.
  float k = asin(clamp(s, -0.98, 0.98)) * wide;
  float gap = abs(fract(k + 0.5) - 0.5);
  return smoothstep(0.0, max(0.10, 1.5 * fwidth(k)), gap);
}
void main() {
  float s = given.x;
  float under = given.y;
  float over = given.z;
  float open = given.w;
  float depth = under / max(1e-4, under + over);
  float soft = max(0.005, fwidth(under));
  vec3 throat = mix(flesh * 0.14, flesh * 0.36, smoothstep(0.35, 1.0, depth));
  throat *= 1.0 - 0.45 * smoothstep(0.45, 1.0, abs(s));
  vec3 ink = throat;

  // The tongue lies on the floor.
  vec2 t = vec2(s / 0.70, (over - 0.01) / max(1e-4, 0.60 * open));
  float tongue = (1.0 - smoothstep(0.45, 1.0, dot(t, t))) * smoothstep(0.04, 0.11, open);
  vec3 tongue_ink = flesh * mix(0.50, 0.74, smoothstep(0.05, 0.4, over / max(1e-4, open)));
  tongue_ink *= 1.0 - 0.10 * (1.0 - smoothstep(0.0, 0.12, abs(s)));
  ink = mix(ink, tongue_ink, 0.9 * tongue);

  // The lower teeth show only when the mouth is wide open.
  float low_height = 0.040 * smoothstep(0.12, 0.24, open) * (1.0 - 0.75 * s * s);
  float low = (1.0 - smoothstep(low_height - 1.4 * soft, low_height + 0.4 * soft, over))
    * smoothstep(0.006, 0.016, low_height) * (1.0 - smoothstep(0.35, 0.70, abs(s)));
  vec3 low_ink = light * vec3(0.66, 0.61, 0.55) * mix(0.92, 1.0, tooth_gaps(s, 5.0));
  ink = mix(ink, low_ink, 0.75 * low);

  // The upper teeth hang on the skull: the lip uncovers them. Their edge is a little uneven.
  float edge = 1.0 + 0.025 * cos(6.2832 * asin(clamp(s, -0.98, 0.98)) * 3.2 + 3.1416);
  float height = min(0.082, 0.56 * open + 0.004) * (1.0 - 0.55 * s * s) * edge;
  float high = (1.0 - smoothstep(height - 1.6 * soft, height + 0.6 * soft, under))
    * smoothstep(0.008, 0.030, open) * (1.0 - smoothstep(0.60, 0.92, abs(s)));
  vec3 enamel = light * vec3(0.97, 0.94, 0.885) * mix(0.86, 1.0, tooth_gaps(s, 3.2));
  enamel *= mix(1.0, 0.66, smoothstep(0.15, 0.85, abs(s)));
  enamel *= mix(0.86, 1.0, smoothstep(0.0, 0.8, under / max(1e-4, height)));
  ink = mix(ink, enamel, 0.96 * high);

  // The lips' own shadow falls inwards.
  ink = mix(flesh * 0.30, ink, mix(0.5, 1.0, smoothstep(-0.004, 0.011, under)));
  ink = mix(flesh * 0.34, ink, mix(0.5, 1.0, smoothstep(-0.004, 0.010, over)));
  colour = vec4(ink, 1.0) * framed();
}`;

// Soft strokes. given: across -1..1, alpha.
const STROKE = `${FRAME}
uniform vec3 ink;
void main() {
  float side = 1.0 - given.x * given.x;
  float alpha = side * side * given.y * framed();
  colour = vec4(ink * alpha, alpha);
}`;

const DOT = `${FRAME}
void main() {
  float soft = fwidth(given.x) + fwidth(given.y);
  float r = length(given.xy);
  float alpha = 1.0 - smoothstep(1.0 - soft, 1.0, r);
  vec3 ink = mix(vec3(1.0), vec3(0.12, 0.45, 0.42), smoothstep(0.62 - soft, 0.62, r));
  colour = vec4(ink * alpha, alpha);
}`;

const FRAGMENTS = { photo: PHOTO, mouth: MOUTH, stroke: STROKE, dot: DOT };
const UNIFORMS = ["view", "frame", "corner", "photo", "size", "flesh", "light", "ink"];

/** Each program, and `at`: where its uniforms are. Attribute 0 is `place`, 1 `what`. */
export function programs(gl) {
  return Object.fromEntries(Object.entries(FRAGMENTS).map(([name, fragment]) => {
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "what");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`${name}: ${gl.getProgramInfoLog(program)} ${logs.join(" ")}`);
    }
    const at = Object.fromEntries(UNIFORMS.map((u) => [u, gl.getUniformLocation(program, u)]));
    return [name, { program, at }];
  }));
}
