// The microphone as chunks of 20 ms, untouched by the browser's voice processing.

import { RATES } from "./protocol.js";

/** A reason why there is no sound; `code` is a state the read-out has words for. */
export class MicrophoneError extends Error {
  /** @param {"insecure" | "refused" | "no-microphone" | "microphone-busy" |
   *   "unreachable"} code */
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

function makeContext(wanted) {
  if (wanted) return new AudioContext({ latencyHint: "interactive", sampleRate: wanted });
  const context = new AudioContext({ latencyHint: "interactive" });
  const { sampleRate } = context;
  if (sampleRate >= RATES.least && sampleRate <= RATES.most) return context;
  context.close();
  return new AudioContext({ latencyHint: "interactive", sampleRate: 48000 });
}

export class Microphone {
  /**
   * @param {{deviceId: string, rate?: number | null, heard: (samples: Float32Array) => void,
   *   gone: () => void}} options `rate`: the device's own by default; `heard`: each chunk, -1..1
   *   at that rate; `gone`: the device was unplugged or taken away
   * @returns {Promise<Microphone>}
   */
  static async open({ deviceId, rate = null, heard, gone }) {
    const stream = await ask(deviceId);
    const context = makeContext(rate);
    try {
      await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      throw new MicrophoneError("unreachable", { cause: error }); // the module is the server's
    }
    context.resume();
    return new Microphone(stream, context, heard, gone);
  }

  constructor(stream, context, heard, gone) {
    this.stream = stream;
    this.context = context;
    this.rate = context.sampleRate;
    [this.track] = stream.getAudioTracks();
    this.deviceId = this.track.getSettings().deviceId ?? "";
    this.track.onended = gone;
    this.source = context.createMediaStreamSource(stream);
    this.capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    this.capture.port.onmessage = ({ data }) => heard(data);
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

/**
 * The microphones there are; they have names only once one of them was allowed.
 * @returns {Promise<{deviceId: string, label: string}[]>}
 */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId)
    .map(({ deviceId, label }, i) => ({ deviceId, label: label || `Microphone ${i + 1}` }));
}
