// Asks the kernel every few seconds whether it is there; what is asked for, too, is fresh figures.
const MOST_UNANSWERED = 3;

function render({ model, el }) {
  const words = model.get("words");
  const banner = document.createElement("div");
  banner.className = "rm-lost";
  banner.setAttribute("role", "alert");
  const reload = document.createElement("button");
  reload.type = "button";
  reload.textContent = words.reload;
  reload.onclick = () => location.reload();
  let unanswered = 0;
  const show = () => {
    const lost = unanswered >= MOST_UNANSWERED;
    if (lost && !banner.hasChildNodes()) banner.append(words.lost, " ", reload);
    if (!lost) banner.replaceChildren();
  };
  const strike = () => {
    show();
    unanswered += 1;
    // A connection that is gone may throw; that no answer comes is what counts.
    try { model.send({}); } catch { /* told by the banner */ }
  };
  const answer = () => { unanswered = 0; show(); };
  model.on("change:answer", answer);
  const beat = setInterval(() => { if (!document.hidden) strike(); }, 1000 * model.get("seconds"));
  const seen = () => { if (!document.hidden) strike(); };
  document.addEventListener("visibilitychange", seen);
  strike();
  el.append(banner);
  return () => {
    clearInterval(beat);
    document.removeEventListener("visibilitychange", seen);
    model.off("change:answer", answer);
  };
}
export default { render };
