// Mixtures of emotions that have a name of their own, one button each.

/** The weights of each sum to at most 1; the rest is neutral. */
export const PRESETS = [
  { name: "Cheerful", weights: { happy: 0.7, surprised: 0.2 } },
  { name: "Shocked", weights: { surprised: 0.65, fear: 0.35 } },
  { name: "Worried", weights: { fear: 0.45, sad: 0.35 } },
  { name: "Bittersweet", weights: { sad: 0.45, happy: 0.4 } },
  { name: "Smug", weights: { contempt: 0.55, happy: 0.35 } },
  { name: "Grumpy", weights: { angry: 0.4, sad: 0.2, contempt: 0.15 } },
];

const CLOSE = 0.0015; // weights are rounded to thousandths

/** Whether two mixtures are the same to the eye and on the wire. */
export function alike(a, b) {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => Math.abs((a[name] ?? 0) - (b[name] ?? 0)) < CLOSE);
}

/** The colours of a mixture, each for its share, as a CSS image. */
function swatch(weights) {
  const entries = Object.entries(weights);
  const sum = entries.reduce((total, [, weight]) => total + weight, 0);
  let from = 0;
  const parts = entries.map(([name, weight]) => {
    const to = from + (weight / sum) * 100;
    const part = `var(--${name}) ${from.toFixed(1)}% ${to.toFixed(1)}%`;
    from = to;
    return part;
  });
  return `conic-gradient(${parts.join(", ")})`;
}

/** Fills `place` with a button for each preset; returns what presses the one of some weights. */
export function showPresets(place, choose) {
  const buttons = PRESETS.map(({ name, weights }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.preset = name.toLowerCase();
    const dot = document.createElement("i");
    dot.style.backgroundImage = swatch(weights);
    button.append(dot, name);
    button.addEventListener("click", () => choose(weights));
    return button;
  });
  place.replaceChildren(...buttons);
  const mark = (now) => buttons.forEach((button, i) => {
    button.setAttribute("aria-pressed", String(alike(PRESETS[i].weights, now)));
  });
  mark({});
  return mark;
}
