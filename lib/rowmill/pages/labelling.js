// One image to label: by its buttons, or by keys while the focus is inside.
function render({ model, el }) {
  const words = model.get("words");
  const make = (name, kind) => {
    const made = document.createElement(kind);
    made.className = name;
    return made;
  };
  const board = make("rm-label", "div"), image = make("rm-label-image", "img"), labels = make("rm-label-keys", "div");
  const tools = make("rm-label-tools", "div"), told = make("rm-label-told", "p"), hint = make("rm-label-hint", "p");
  board.tabIndex = 0;
  board.setAttribute("role", "group");
  board.setAttribute("aria-label", words.title);
  image.alt = words.image;
  told.setAttribute("role", "status");
  hint.textContent = words.keys;

  const send = content => model.send({ ...content, number: model.get("number") });
  const button = (text, key, content) => {
    const made = make("rm-tool", "button");
    made.type = "button";
    made.append(text);
    if (key && key !== text) {
      const shown = document.createElement("kbd");
      shown.textContent = key;
      made.append(" ", shown);
    }
    made.onclick = () => { send(content); board.focus({ preventScroll: true }); };
    return made;
  };
  const keys = new Map(), choices = model.get("labels").map(([label, key]) => {
    if (key) keys.set(key.toLowerCase(), { label });
    return button(label, key, { label });
  });
  const skip = button(words.skip, "→", { skip: true }), undo = button(words.undo, "←", { undo: true });
  labels.append(...choices);
  tools.append(skip, undo);

  board.onkeydown = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const chosen = keys.get(event.key.toLowerCase());
    const left = model.get("image") !== "";
    const content = event.key === "ArrowLeft" ? model.get("can_undo") && { undo: true } : left && (event.key === "ArrowRight" ? { skip: true } : chosen);
    if (!content) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has commands on letters
    send(content);
  };
  const show = () => {
    const left = model.get("image") !== "";
    image.src = model.get("image") || "data:,";
    image.style.visibility = left ? "" : "hidden";
    told.textContent = model.get("told");
    for (const made of [...choices, skip]) made.disabled = !left;
    undo.disabled = !model.get("can_undo");
  };
  model.on("change", show);
  show();
  board.append(image, told, labels, tools, hint);
  el.append(board);
}
export default { render };
