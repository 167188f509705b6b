// The settings that a session begins with: how long it listens, how lively the face is, by which
// way the sound goes. A running session begins anew with them.

/** `settings`: those to begin with; `startAgain`: with another connection. */
export function showSettings({ timing, life, media }, controller, settings, startAgain) {
  const { hop, lookahead } = settings;
  const chosen = `${hop}-${lookahead}`;
  if (![...timing.options].some(({ value }) => value === chosen)) {
    const seconds = ((hop + lookahead) / 30).toFixed(1);
    timing.append(new Option(`${seconds} s: hop ${hop}, look-ahead ${lookahead}`, chosen));
  }
  timing.value = chosen;
  life.value = String(Math.round(100 * settings.life));
  media.value = controller.media = settings.media;

  timing.addEventListener("change", () => {
    const [newHop, newLookahead] = timing.value.split("-").map(Number);
    controller.window = { hop: newHop, lookahead: newLookahead };
    controller.renew();
  });
  life.addEventListener("change", () => {
    controller.life = life.valueAsNumber / 100;
    controller.renew();
  });
  media.addEventListener("change", () => {
    controller.media = media.value;
    startAgain();
  });
}
