"use strict";
// One example, one prediction, one explanation: fields as pictures, statements as a table.

const COLOURS = {
  viridis: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
  magma: ["#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf"],
  cividis: ["#00224e", "#434e6c", "#7d7c78", "#bcaf6f", "#fee838"],
  signed: ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"],
};
const element = (id) => document.getElementById(id);

function colour(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parts(stops[low]), parts(stops[low + 1])];
  return a.map((v, i) => Math.round(v + (b[i] - v) * (place - low)));
}

function decode(array) {
  const bytes = Uint8Array.from(atob(array.data.buffer), (c) => c.charCodeAt(0));
  const kinds = { uint8: Uint8Array, float32: Float32Array, float64: Float64Array };
  return { shape: array.shape, values: Float64Array.from(new kinds[array.dtype](bytes.buffer)) };
}

// axis 0 is x to the right, axis 1 is y upwards
function draw(title, field, axes, name, units) {
  const [nx, ny] = field.shape;
  let low = Math.min(...field.values), high = Math.max(...field.values);
  if (name === "signed") { high = Math.max(-low, high); low = -high; }
  const figure = document.createElement("figure");
  figure.innerHTML = "<figcaption></figcaption><canvas></canvas><div class=bar><span></span><canvas width=200 height=1></canvas><span></span></div><p></p>";
  figure.querySelector("figcaption").textContent = units === "1" ? title : `${title} [${units}]`;
  const [canvas, bar] = figure.querySelectorAll("canvas");
  canvas.width = nx; canvas.height = ny;
  const paint = (target, w, h, share) => {
    const context = target.getContext("2d"), image = context.createImageData(w, h);
    for (let j = 0; j < h; j++) for (let i = 0; i < w; i++)
      image.data.set([...colour(COLOURS[name], share(i, j)), 255], 4 * (j * w + i));
    context.putImageData(image, 0, 0);
  };
  paint(canvas, nx, ny, (i, j) => (field.values[i * ny + (ny - 1 - j)] - low) / (high - low || 1));
  paint(bar, 200, 1, (i) => i / 199);
  const [left, right] = figure.querySelectorAll("span");
  left.textContent = low.toPrecision(3); right.textContent = high.toPrecision(3);
  const note = figure.querySelector("p");
  note.textContent = `${axes[0].name} → right, ${axes[1].name} → up`;
  canvas.onmousemove = (event) => {
    const i = Math.min(nx - 1, Math.floor(event.offsetX / canvas.clientWidth * nx));
    const j = ny - 1 - Math.min(ny - 1, Math.floor(event.offsetY / canvas.clientHeight * ny));
    const at = (axis, k) => (axis.start + (axis.stop - axis.start) * k / (axis.points - 1)).toFixed(3);
    note.textContent = `${axes[0].name} = ${at(axes[0], i)}, ${axes[1].name} = ${at(axes[1], j)}: ${field.values[i * ny + j].toPrecision(5)}`;
  };
  element("panels").append(figure);
}

async function call(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const answer = await fetch(path, options), document_ = await answer.json();
  if (!answer.ok) throw new Error(document_.detail || answer.statusText);
  return document_;
}

function statementRow(s) {
  const row = document.createElement("tr");
  const value = s.value === null ? "–" : s.relative ? `${(100 * s.value).toPrecision(3)} %` : s.value.toPrecision(3);
  for (const text of [s.norm, value, s.kind, s.level ?? "–", s.truth, s.assumptions.join("; ")]) {
    const cell = document.createElement("td"); cell.textContent = text; row.append(cell);
  }
  row.children[2].className = s.kind;
  return row;
}

async function show() {
  const base = `/v1/models/${element("model").value}`, seed = element("seed").value;
  element("message").textContent = "";
  const model = await call(base), example = await call(`${base}/example?seed=${seed}&encoding=base64`);
  const [source, target] = [model.inputs[0], model.outputs[0]];
  element("title").textContent = model.title;
  element("equation").textContent = model.equation || "";
  element("links").innerHTML = `<a href="${base}/card" id="card">Model card</a> · <a href="/docs">API</a>`;
  const answer = await call(`${base}/predict`, { ...example, level: Number(element("level").value), encoding: "base64" });
  element("panels").replaceChildren();
  draw(`${source.name} (input)`, decode(example.inputs[source.name]), source.axes, "viridis", source.units);
  draw(target.name, decode(answer.outputs[target.name].data), target.axes, "magma", target.units);
  const band = answer.uncertainty[target.name];
  if (band.lower) {
    const [low, high] = [decode(band.lower), decode(band.upper)];
    const half = { shape: low.shape, values: low.values.map((v, i) => (high.values[i] - v) / 2) };
    draw(`half-width of the ${(100 * band.level).toFixed(0)} % band`, half, target.axes, "cividis", target.units);
  }
  element("statements").replaceChildren(...answer.statements.map(statementRow));
  element("validity").textContent = answer.validity.in_domain
    ? `The input belongs to the training law (p = ${answer.validity.p_value.toFixed(3)}).`
    : `Out of domain, no band is claimed: ${answer.validity.reasons.join("; ")}`;
  element("route").textContent = "Time: " + answer.route.map((s) => `${s.step} ${s.milliseconds.toFixed(1)} ms`).join(" · ");
  await explain(base, example, source, target);
}

async function explain(base, example, source, target) {
  const quantity = { type: "region_mean" };
  for (const axis of target.axes) quantity[axis.name] = [0.4, 0.6].map((s) => axis.start + s * (axis.stop - axis.start));
  const found = await call(`${base}/explain`, { ...example, quantity, encoding: "base64", regions: 4 });
  const attribution = found.attribution[source.name].data;
  draw(`what drives the mean ${target.name} of the central square`, decode(attribution), source.axes, "signed", target.units);
}

async function start() {
  const { models } = await call("/v1/models");
  for (const model of models) element("model").append(new Option(model.title, model.name));
  if (models.length) await show(); else element("message").textContent = "No model is served.";
}

const report = (error) => { element("message").textContent = error.message; };
element("form").addEventListener("submit", (event) => { event.preventDefault(); show().catch(report); });
start().catch(report);
