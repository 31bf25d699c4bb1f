// A table to filter, sort and choose from. All text stays text: nothing of it is read as HTML.
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const collator = new Intl.Collator(undefined, { numeric: true });
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));
const key = cell => cell.sort ?? cell.text ?? "";

function render({ model, el }) {
  const words = model.get("words"), columns = model.get("columns");
  const filter = make("input", { type: "search", placeholder: words.filter, "aria-label": `${words.filter}: ${words.label}` });
  const count = make("span", { class: "rm-quiet", role: "status" });
  const none = make("p", { class: "rm-quiet" }, words.none);
  const heads = columns.map((column, place) => {
    const button = make("button", { type: "button", title: column.title }, column.label);
    button.onclick = () => { order = { place, down: order.place === place && !order.down }; lay(); };
    return make("th", { role: "columnheader", scope: "col", class: `rm-is-${column.kind}` }, button);
  });
  const body = make("tbody", { role: "rowgroup" });
  const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads));
  const frame = make("div", { class: "rm-scroll" }, make("table", { role: "grid", "aria-label": words.label }, head, body));
  let order = { place: -1, down: false }, lines = [];

  const line = row => {
    const cells = row.cells.map((cell, place) => {
      const inside = cell.badge ? make("span", { class: `rm-badge rm-${cell.badge}` }, cell.text ?? "") : cell.text ?? "";
      const { label, kind } = columns[place];
      return make("td", { role: "gridcell", class: `rm-is-${kind}`, "data-label": label, title: cell.title }, inside);
    });
    const node = make("tr", { role: "row", tabindex: "-1" }, ...cells);
    node.onclick = () => choose(row.id);
    return { row, node, words: row.cells.map(cell => cell.text ?? "").join(" ").toLowerCase() };
  };
  const shown = () => lines.filter(({ node }) => !node.hidden);
  const mark = () => {
    const chosen = model.get("chosen"), seen = shown();
    const reach = (seen.find(({ row }) => row.id === chosen) ?? seen[0])?.node;
    for (const { row, node } of lines) {
      node.setAttribute("aria-selected", String(row.id === chosen));
      node.tabIndex = node === reach ? 0 : -1; // one stop for the Tab key; arrows do the rest
    }
  };
  const sift = () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { node, words: said } of lines) node.hidden = !wanted.every(word => said.includes(word));
    const left = shown().length;
    count.textContent = words.count.replace("{shown}", left.toLocaleString()).replace("{all}", lines.length.toLocaleString());
    none.hidden = left > 0;
    mark();
  };
  const lay = () => {
    const sign = order.down ? -1 : 1, { place } = order;
    if (place >= 0) lines.sort((a, b) => sign * compare(key(a.row.cells[place]), key(b.row.cells[place])));
    heads.forEach((node, at) => node.setAttribute("aria-sort", at !== place ? "none" : order.down ? "descending" : "ascending"));
    body.replaceChildren(...lines.map(({ node }) => node));
    sift();
  };
  const fill = () => {
    const held = lines.find(({ node }) => node === document.activeElement)?.row.id;
    lines = model.get("rows").map(line);
    lay();
    lines.find(({ row }) => row.id === held)?.node.focus();
  };
  const choose = id => {
    model.set("chosen", id);
    model.save_changes();
    model.send({ chosen: id });
  };
  body.onkeydown = event => {
    const seen = shown(), at = seen.findIndex(({ node }) => node === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: seen.length - 1 }[event.key];
    if (at < 0 || (to === undefined && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    if (to === undefined) choose(seen[at].row.id);
    else seen[Math.max(0, Math.min(seen.length - 1, to))].node.focus();
  };
  filter.oninput = sift;
  model.on("change:rows", fill);
  model.on("change:chosen", mark);
  el.append(make("div", { class: "rm-row rm-filter" }, filter, count), frame, none);
  fill();
}
export default { render };
