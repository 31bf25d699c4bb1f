// A pad to draw on, by pointer or finger; the kernel gets the strokes as points, the unit is the pad's width.
const WIDTH = 280;

function render({ model, el }) {
  const words = model.get("words");
  const canvas = document.createElement("canvas");
  canvas.className = "rm-pad";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words.pad);
  const pen = canvas.getContext("2d");
  let strokes = [], stroke = null;

  const tool = (label, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "rm-tool";
    button.textContent = label;
    button.onclick = () => { act(); paint(); tell(); };
    return button;
  };
  const undo = tool(words.undo, () => strokes.pop()), clear = tool(words.clear, () => { strokes = []; });

  const paint = () => {
    const [height, width] = model.get("shape"), dense = Math.max(2, window.devicePixelRatio || 1);
    canvas.width = WIDTH * dense;
    canvas.height = Math.round((WIDTH * dense * height) / width);
    canvas.style.aspectRatio = `${width} / ${height}`;
    pen.fillStyle = model.get("ground") ? "#fff" : "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = model.get("ground") ? "#000" : "#fff";
    pen.lineWidth = model.get("brush") * canvas.width;
    pen.lineCap = pen.lineJoin = "round";
    for (const points of strokes) {
      pen.beginPath();
      points.forEach(([x, y]) => pen.lineTo(x * canvas.width, y * canvas.width));
      if (points.length === 1) pen.lineTo(points[0][0] * canvas.width, points[0][1] * canvas.width);
      pen.stroke();
    }
    undo.disabled = clear.disabled = !strokes.length;
  };
  const tell = () => model.send({ strokes: strokes.map(points => points.map(point => point.map(n => Math.round(n * 1000) / 1000))) });
  const place = event => {
    const frame = canvas.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.width];
  };
  canvas.onpointerdown = event => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    strokes.push(stroke = [place(event)]);
    paint();
  };
  canvas.onpointermove = event => {
    if (!stroke) return;
    const parts = event.getCoalescedEvents?.() ?? [];
    for (const part of parts.length ? parts : [event]) stroke.push(place(part));
    paint();
  };
  canvas.onpointerup = canvas.onpointercancel = () => {
    if (!stroke) return;
    stroke = null;
    tell();
  };
  const tools = document.createElement("div");
  tools.className = "rm-row";
  tools.append(undo, clear);
  el.append(canvas, tools);
  for (const name of ["shape", "ground", "brush"]) model.on(`change:${name}`, paint);
  paint();
}
export default { render };
