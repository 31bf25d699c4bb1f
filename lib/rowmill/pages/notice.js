// One line that tells what goes on. The live region is there before its words, so that screen readers speak them.
function render({ model, el }) {
  const line = document.createElement("p");
  line.setAttribute("role", "status");
  line.setAttribute("aria-live", "polite");
  const show = () => {
    line.className = `rm-notice rm-${model.get("kind")}`;
    line.textContent = model.get("text");
  };
  model.on("change", show);
  show();
  el.append(line);
}
export default { render };
