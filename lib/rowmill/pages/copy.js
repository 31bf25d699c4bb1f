// A command to copy.
function render({ model, el }) {
  const words = model.get("words");
  const command = document.createElement("pre");
  command.className = "rm-command";
  command.tabIndex = 0;
  command.setAttribute("role", "region");
  command.setAttribute("aria-label", words.command);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "rm-tool";
  button.setAttribute("aria-live", "polite");
  const show = () => {
    command.textContent = model.get("text");
    button.textContent = words.copy;
    el.style.display = model.get("text") ? "" : "none";
  };
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(model.get("text"));
      button.textContent = words.copied;
    } catch {
      getSelection().selectAllChildren(command); // where a browser refuses, Ctrl-C does it
      button.textContent = words.selected;
    }
  };
  model.on("change:text", show);
  show();
  el.append(command, button);
}
export default { render };
