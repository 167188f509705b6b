// The microphone as chunks of 20 ms, untouched by the browser's voice processing.

import { makeContext } from "./audio-context.js";

/** A reason why there is no sound; `code` is a state of the page. */
export class MicrophoneError extends Error {
  constructor(code, options) {
    super(code, options);
    this.code = code;
  }
}

const CODES = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "no-microphone",
  OverconstrainedError: "no-microphone",
};

async function ask(deviceId) {
  if (!globalThis.isSecureContext || !navigator.mediaDevices) throw new MicrophoneError("insecure");
  const audio = {
    echoCancellation: false,
    noiseSuppression: false,
    autoGainControl: false,
    channelCount: { ideal: 1 },
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new MicrophoneError(CODES[error.name] ?? "microphone-busy", { cause: error });
  }
}

/** Firefox gives a stream to a context of its own rate alone, so the one wanted is a wish. */
function hearing(stream, rate) {
  const context = makeContext("interactive", rate);
  try {
    return { context, source: context.createMediaStreamSource(stream) };
  } catch (error) {
    context.close();
    if (rate === null) throw error;
    return hearing(stream, null);
  }
}

async function prepare({ audioWorklet }) {
  try {
    await audioWorklet.addModule(new URL("./capture-worklet.js", import.meta.url));
  } catch (error) {
    throw new MicrophoneError("unreachable", { cause: error }); // the module is the server's
  }
}

export class Microphone {
  /**
   * `rate`: to count at, the device's own by default; `onAudio(samples, length)`: each chunk, -1..1,
   * at that rate where the browser can, and how many samples of that rate it lasts; `onGone()`: the
   * device was unplugged or taken away.
   */
  static async open({ deviceId, rate = null, onAudio, onGone }) {
    const stream = await ask(deviceId);
    let graph = null;
    try {
      graph = hearing(stream, rate);
      await prepare(graph.context);
      graph.context.resume();
      return new Microphone(stream, graph, rate, onAudio, onGone);
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      graph?.context.close();
      if (error instanceof MicrophoneError) throw error;
      throw new MicrophoneError("microphone-busy", { cause: error });
    }
  }

  constructor(stream, { context, source }, rate, onAudio, onGone) {
    Object.assign(this, { stream, context, source });
    this.rate = rate ?? context.sampleRate;
    [this.track] = stream.getAudioTracks();
    this.deviceId = this.track.getSettings().deviceId ?? "";
    this.track.onended = onGone;
    this.capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    const lasts = this.rate / context.sampleRate;
    this.capture.port.onmessage = ({ data }) => onAudio(data, data.length * lasts);
    this.source.connect(this.capture);
  }

  /** Lets go of the device, so that the browser's recording sign goes out. */
  close() {
    this.track.onended = null;
    this.capture.port.onmessage = null;
    this.source.disconnect();
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
  }
}

/** The microphones there are; they have names only once one of them was allowed. */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId)
    .map(({ deviceId, label }, i) => ({ deviceId, label: label || `Microphone ${i + 1}` }));
}
