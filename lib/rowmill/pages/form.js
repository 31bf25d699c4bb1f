// A form of fields and of ranges. The kernel gives its content; what the viewer writes goes back as texts, and comes back only as faults.
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== false && (value !== "" || name === "value")) node.setAttribute(name, value === true ? "" : value);
  node.append(...children);
  return node;
};
let forms = 0;

function render({ model, el }) {
  const words = model.get("words"), own = `rm-form-${++forms}`;
  const fields = make("div", { class: "rm-fields" }), ranges = make("div", { class: "rm-ranges" });
  let values = {}, rows = [], faults = new Map(), timer;
  const send = () => {
    if (timer) model.send({ values, rows });
    clearTimeout(timer);
    timer = 0;
  };
  const tell = () => {
    clearTimeout(timer);
    timer = setTimeout(send, 200);
  };
  el.addEventListener("focusout", send); // before the click on the button that takes what was written

  // One input: a select where there are options, else what its kind says. It keeps its text in `store[name]`.
  const input = (store, name, { id, label, kind = "text", options, hint = "", title = "" }, changed = tell) => {
    const common = { id, "aria-label": id ? "" : label, title, "aria-describedby": `${id ?? ""}-fault` };
    const node = options
      ? make("select", common, ...options.map(([value, text]) => make("option", { value }, text)))
      : make("input", { ...common, type: kind === "check" ? "checkbox" : "text", inputmode: kind === "number" ? "decimal" : "", placeholder: hint, spellcheck: "false", autocomplete: "off" });
    if (kind === "check") node.checked = store[name] === "True";
    else node.value = store[name] ?? "";
    node[options || kind === "check" ? "onchange" : "oninput"] = () => {
      store[name] = kind === "check" ? (node.checked ? "True" : "False") : node.value;
      changed();
    };
    return node;
  };
  const field = entry => {
    const id = `${own}-${entry.name}`;
    const fault = make("p", { id: `${id}-fault`, class: "rm-fault", role: "alert" });
    faults.set(entry.name, fault);
    const help = entry.help ? [make("p", { class: "rm-quiet rm-help" }, entry.help)] : [];
    const node = input(values, entry.name, { ...entry, id });
    return make("div", { class: `rm-input rm-for-${entry.kind ?? "text"}` }, make("label", { for: id }, entry.label), node, ...help, fault);
  };
  const group = ({ title, fields: entries, folded }) => {
    const inside = make("div", { class: "rm-inputs" }, ...entries.map(field));
    if (folded) return make("details", {}, make("summary", {}, title), inside);
    return make("fieldset", {}, make("legend", {}, title), inside);
  };

  const line = row => {
    const cell = (column, given = {}) => make("td", { "data-label": words[`range_${column}`] },
      input(row, column, { label: `${row.name || words.range_name}: ${words[`range_${column}`]}`, title: words[`range_${column}_title`], ...given }, given.changed));
    const numbers = row.type === "int" || row.type === "float", choice = row.type === "choice";
    const again = () => { layRanges(); tell(); };
    const name = row.fixed ? make("th", { scope: "row", class: "rm-id" }, row.name) : cell("name");
    const fault = make("p", { class: "rm-fault", role: "alert" });
    faults.set(`range:${rows.indexOf(row)}`, fault);
    const gone = make("button", { type: "button", class: "rm-tool rm-small", "aria-label": `${words.remove} ${row.name}`, title: words.remove }, "\u00d7");
    gone.onclick = () => { rows.splice(rows.indexOf(row), 1); again(); };
    const kinds = ["int", "float", "choice", "bool"].map(kind => [kind, words[`kind_${kind}`]]);
    const scales = [["", words.sampling_linear], ["log", words.sampling_log]];
    const blank = column => make("td", { class: "rm-blank", "data-label": words[`range_${column}`] });
    return [
      make("tr", {}, name, cell("type", { options: kinds, changed: again }),
        ...["min", "max", "step"].map(column => (numbers ? cell(column, { kind: "number" }) : blank(column))),
        numbers ? cell("sampling", { options: scales }) : blank("sampling"),
        choice ? cell("values", { hint: words.values_hint }) : blank("values"),
        cell("default", { hint: row.own }), make("td", {}, gone)),
      make("tr", { class: "rm-fault-row" }, make("td", { colspan: 9 }, fault)),
    ];
  };
  const layRanges = () => {
    for (const key of faults.keys()) if (key.startsWith("range:")) faults.delete(key);
    const heads = ["name", "type", "min", "max", "step", "sampling", "values", "default"];
    const head = make("tr", {}, ...heads.map(name => make("th", { scope: "col", title: words[`range_${name}_title`] }, words[`range_${name}`])), make("td"));
    const { free, known } = model.get("content"), left = known.filter(row => !rows.some(other => other.name === row.name));
    const add = make("select", { "aria-label": words.add }, make("option", { value: "" }, words.add), ...left.map(row => make("option", { value: row.name }, row.name)));
    if (free) add.append(make("option", { value: "\u0000" }, words.add_own));
    add.onchange = () => {
      rows.push({ ...(left.find(row => row.name === add.value) ?? { name: "", type: "float" }) });
      layRanges();
      tell();
    };
    const table = make("table", { "aria-label": words.ranges }, make("thead", {}, head), make("tbody", {}, ...rows.flatMap(line)));
    ranges.replaceChildren(make("div", { class: "rm-scroll" }, table), ...(left.length || free ? [add] : []));
    mark();
  };
  const mark = () => {
    const found = model.get("faults");
    for (const [name, node] of faults) {
      node.textContent = found[name] ?? "";
      const place = node.closest("tr")?.previousElementSibling ?? node.parentElement;
      for (const one of place.querySelectorAll("input, select")) one.setAttribute("aria-invalid", String(!!found[name]));
    }
  };
  const lay = () => {
    const content = model.get("content");
    values = { ...content.values };
    rows = content.rows.map(row => ({ ...row }));
    faults = new Map();
    const open = [...fields.querySelectorAll("details")].map(node => node.open);
    fields.replaceChildren(...content.groups.map(group));
    fields.querySelectorAll("details").forEach((node, place) => { node.open = open[place] ?? false; });
    ranges.hidden = !content.has_ranges;
    if (content.has_ranges) layRanges();
    mark();
  };
  model.on("change:content", lay);
  model.on("change:faults", mark);
  lay();
  el.append(fields, ranges);
  return () => clearTimeout(timer);
}
export default { render };
