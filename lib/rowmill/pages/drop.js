// A place to drop images on, or to choose them; what is too much is refused here, for it would break the connection to the kernel.
function render({ model, el }) {
  const words = model.get("words"), limits = model.get("limits");
  const field = document.createElement("input");
  field.type = "file";
  field.multiple = true;
  field.accept = "image/png,image/jpeg";
  field.className = "rm-hidden";
  const target = document.createElement("label");
  target.className = "rm-drop";
  target.append(words.drop, field);

  const refusal = files => {
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    const said = { count: files.length, most: limits.files, mb: (bytes / 1e6).toFixed(1), most_mb: (limits.bytes / 1e6).toFixed(0) };
    const sentence = files.length > limits.files ? words.too_many : bytes > limits.bytes ? words.too_large : "";
    return sentence.replace(/\{(\w+)\}/g, (_, name) => said[name]);
  };
  const take = async files => {
    const refused = refusal(files);
    if (refused || !files.length) {
      if (refused) model.send({ refused });
      return;
    }
    const contents = await Promise.all(files.map(file => file.arrayBuffer()));
    model.send({ names: files.map(file => file.name) }, undefined, contents);
  };
  const tell = error => model.send({ refused: words.unreadable.replace("{words}", error.message) });
  field.onchange = () => {
    take([...field.files]).catch(tell);
    field.value = ""; // the same file may be chosen again
  };
  target.ondragover = event => { event.preventDefault(); target.classList.add("rm-over"); };
  target.ondragleave = () => target.classList.remove("rm-over");
  target.ondrop = event => {
    event.preventDefault();
    target.classList.remove("rm-over");
    take([...event.dataTransfer.files]).catch(tell);
  };
  el.append(target);
}
export default { render };
