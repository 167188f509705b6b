// The microphone to KFusion, ARKit's coefficients back onto the morph targets of a head.
import * as THREE from "three";
import { makeHead } from "./head.js";

const server = new URLSearchParams(location.search).get("server") ?? "ws://127.0.0.1:8765";
const head = makeHead();
const [scene, camera] = [new THREE.Scene(), new THREE.PerspectiveCamera(28, 1, 0.1, 20)];
const light = new THREE.DirectionalLight(0xfff4e8, 2.4);
light.position.set(-2, 2.5, 4);
scene.add(head, light, new THREE.HemisphereLight(0xdfe8ff, 0x584040, 1.3));
camera.position.set(0.6, 0, 6);
camera.lookAt(0, -0.1, 0);
scene.background = new THREE.Color(0x28303f);
const renderer = new THREE.WebGLRenderer({ antialias: true });
document.body.append(renderer.domElement);

const queue = []; // frames that are not due yet: {name: 0..1}
let [shown, due] = [{}, 0];
renderer.setAnimationLoop((now) => {
  const { clientWidth: width, clientHeight: height } = document.documentElement;
  renderer.setSize(width, innerHeight || height);
  camera.aspect = width / (innerHeight || height);
  camera.updateProjectionMatrix();
  queue.splice(0, queue.length - 9); // more than 0.3 s behind: passed over
  for (; queue.length && now >= due; due = Math.max(due + 1000 / 30, now - 33)) {
    shown = queue.shift();
  }
  if (now > due + 300) shown = {}; // nothing comes: the face rests
  for (const [name, i] of Object.entries(head.morphTargetDictionary)) {
    head.morphTargetInfluences[i] += 0.5 * ((shown[name] ?? 0) - head.morphTargetInfluences[i]);
  }
  renderer.render(scene, camera);
});

document.querySelector("button").onclick = async ({ target }) => {
  target.remove();
  const audio = new AudioContext();
  await audio.audioWorklet.addModule("tap.js");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const tap = new AudioWorkletNode(audio, "tap", { numberOfOutputs: 0 });
  const socket = new WebSocket(`${server}/v1/stream`, "kfusion.v1");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify({ type: "start", encoding: "binary",
    outputs: ["arkit52"], life: 0.6, audio: { rate: audio.sampleRate, format: "f32le" } }));
  let names;
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.type === "error") console.error(message.message);
      if (message.type !== "ready") return;
      names = message.outputs.arkit52;
      tap.port.onmessage = ({ data: samples }) => socket.readyState === 1 && socket.send(samples);
      audio.createMediaStreamSource(stream).connect(tap);
      return;
    }
    const count = new DataView(data).getUint16(6, true); // frames after a header of 24 bytes
    for (let k = 0; k < count; k++) {
      const values = new Float32Array(data, 24 + 4 * names.length * k, names.length);
      queue.push(Object.fromEntries(names.map((name, i) => [name, values[i]])));
    }
  };
};
globalThis.head = head; // to look at it from the console
