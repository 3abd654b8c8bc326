// One example, one answer: inputs and outputs drawn by their axes, statements as a table.
import { UNIT, chart, hillshade, limits, map, padded, palette, panel, short } from "./draw.js";

const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9], FAN = [["0.1", "0.9", "#d3e2f0"], ["0.25", "0.75", "#9dc0de"]];
const DEPTHS = [0.1, 0.3, 0.5, 1.0], HOURS = { s: 1 / 3600, min: 1 / 60, h: 1, hours: 1, d: 24, day: 24 }; // depths in m
const element = (id) => document.getElementById(id);
const report = (error) => { element("message").textContent = error.message; };
const words = (name) => name.replaceAll("_", " ");
const title = (thing) => words(thing.name) + UNIT(thing.units); // of a field, of an axis
const state = { model: null, inputs: null, leads: [], updates: [] }; // updates: what the slider of lead times redraws

async function call(path, body) {
  const options = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const answer = await fetch(path, options), document_ = await answer.json();
  if (!answer.ok) throw new Error(document_.detail || answer.statusText);
  return document_;
}

function decode(array) {
  if (!array?.data) return array === null || array === undefined ? null : Float64Array.from([array].flat(Infinity));
  const bytes = Uint8Array.from(atob(array.data.buffer), (c) => c.charCodeAt(0));
  const kinds = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };
  return Float64Array.from(new kinds[array.dtype](bytes.buffer));
}

const nodes = (axis) => Array.from({ length: axis.points }, (_, i) => axis.start + (axis.stop - axis.start) * i / (axis.points - 1 || 1));
const space = (field) => field.axes.filter((axis) => axis.name !== "lead_time");
const isSeries = (field) => space(field).length === 0 || (space(field).length === 1 && space(field)[0].labels?.length > 0);
const size = (field) => space(field).reduce((count, axis) => count * axis.points, 1);
const isGround = (field) => field.standard_name === "surface_altitude" || field.name === "elevation";
const isTimed = (found) => found.dims?.[0] === "lead_time";

// Every decoded part of a field as a function of the frame: all of it, or what belongs to one lead time.
function parts(field, found) {
  const told = found.uncertainty ?? {}, [mean, lower, upper] = [found.data, told.lower, told.upper].map(decode);
  const at = (values) => (frame) => (isTimed(found) ? values.subarray(frame * size(field), (frame + 1) * size(field)) : values);
  return { told, mean, lower, upper, at };
}

const whenMoved = (found, update) => (isTimed(found) ? state.updates.push(update) : update(0));

function drawMaps(field, found) {
  const { told, mean, lower, upper, at } = parts(field, found), ground = state.model.inputs.find(isGround);
  const wet = ground && field.name.includes("depth"), name = isGround(field) ? "terrain" : wet ? "water" : null;
  const colours = name ? { name, low: wet ? 0 : limits(mean)[0], high: limits(mean)[1] } : palette(field, mean, found.plain);
  const shade = name && hillshade(ground.axes, decode(state.inputs[ground.name])), figures = [];
  const add = (figure, scale, values, relief = null) => {
    const show = map(figure, space(field), scale, relief), update = (frame) => show(at(values())(frame));
    whenMoved(found, update);
    figures.push(figure);
    return update;
  };
  add(panel(title(field)), colours, () => mean, shade);
  if (lower) {
    const half = upper.map((v, i) => (v - lower[i]) / 2), [low, high] = limits(half);
    add(panel(`half-width of the ${short(100 * told.level)} % band${UNIT(field.units)}`), { name: "cividis", low, high }, () => half);
  }
  const limitsAsked = (told.exceedance ?? []).filter((item) => item.probability), chances = limitsAsked.map((item) => decode(item.probability));
  if (chances.length) {
    const figure = panel(`probability of ${words(field.name)} above`), choice = document.createElement("select");
    limitsAsked.forEach((item, i) => choice.append(new Option(`${item.threshold} ${field.units}`, i)));
    figure.querySelector("figcaption").append(choice);
    const update = add(figure, { name: "viridis", low: 0, high: 1 }, () => chances[choice.value]);
    choice.onchange = () => update(Number(element("frame").value));
  }
  return figures;
}

function drawLine(field, found) {
  const { mean, lower, upper, at } = parts(field, found), axis = space(field)[0], x = nodes(axis), figure = panel(title(field));
  const range = padded(mean, lower ?? [], upper ?? []);
  whenMoved(found, (frame) => chart(figure, {
    bands: lower ? [{ x, lower: at(lower)(frame), upper: at(upper)(frame), fill: "#d3e2f0" }] : [],
    lines: [{ x, y: at(mean)(frame) }], range, xname: title(axis),
  }));
  return [figure];
}

// One fan per station: the past as a line, continued by quantiles 10–90 % and 25–75 % and the median.
function drawFans(field, found) {
  const labels = space(field)[0]?.labels ?? [""], units = state.model.lead_times.units, mean = decode(found.data);
  const quantiles = Object.fromEntries(Object.entries(found.uncertainty?.quantiles ?? {}).map(([p, v]) => [p, decode(v)]).filter(([, v]) => v));
  const clock = state.model.inputs.find((f) => f.role === "reference_time"), start = clock && Date.parse(state.inputs[clock.name]);
  const dated = start && units in HOURS, date = (v) => new Date(start + v * HOURS[units] * 3.6e6).toISOString().slice(5, 16).replace("T", " ");
  const source = state.model.inputs.find((f) => f.role === "history" && f.units === field.units
    && (field.standard_name ? f.standard_name === field.standard_name : f.name.includes(field.name)));
  const history = source && decode(state.inputs[source.name]), before = source ? nodes(source.axes[0]).map((v) => v - Math.max(source.axes[0].stop, 0)) : [];
  return labels.map((name, place) => {
    const at = (values) => Array.from({ length: values.length / labels.length }, (_, i) => values[i * labels.length + place]);
    const past = { x: before, y: source ? at(history) : [], stroke: "#6b7886" };
    const x = [...past.x.slice(-1), ...state.leads], onwards = (values) => [...past.y.slice(-1), ...at(values)];
    const bands = FAN.filter(([low]) => low in quantiles).map(([low, high, fill]) =>
      ({ x, lower: onwards(quantiles[low]), upper: onwards(quantiles[high]), fill }));
    const centre = { x, y: onwards(quantiles["0.5"] ?? mean) }, figure = panel(`${name} ${title(field)}`.trim());
    const range = padded(past.y, centre.y, ...bands.flatMap((band) => [band.lower, band.upper]));
    const ticks = dated ? { label: date, xname: "valid time, UTC" } : { xname: `lead time${UNIT(units)}` };
    chart(figure, { bands, lines: [past, centre], range, ...ticks, now: past.x.at(-1) ?? null });
    return figure;
  });
}

function drawNumbers(field, found) {
  const { mean, lower, upper } = parts(field, found), figure = panel(title(field));
  (space(field)[0]?.labels ?? [""]).forEach((name, i) => {
    const band = lower ? ` (${short(lower[i])} to ${short(upper[i])})` : "";
    figure.append(Object.assign(document.createElement("div"), { className: "number", textContent: `${name} ${short(mean[i])}${band}`.trim() }));
  });
  return [figure];
}

function draw(field, found) {
  if (isSeries(field)) return isTimed(found) ? drawFans(field, found) : drawNumbers(field, found);
  return space(field).length === 1 ? drawLine(field, found) : space(field).length === 2 ? drawMaps(field, found) : [];
}

function scalarControl(field) {
  const label = document.createElement("label"), dated = field.role === "reference_time";
  const bounded = !dated && field.minimum !== null && field.maximum !== null;
  Object.assign(label, { textContent: dated ? words(field.name) : title(field), title: field.description });
  const value = dated ? state.inputs[field.name] : Number(decode(state.inputs[field.name])[0].toPrecision(6));
  const controls = (dated ? ["text"] : bounded ? ["range", "number"] : ["number"]).map((type) =>
    Object.assign(document.createElement("input"), { type, step: "any", ...(bounded ? { min: field.minimum, max: field.maximum } : {}), value }));
  label.append(...controls);
  label.onchange = (event) => {
    for (const control of controls) control.value = event.target.value;
    state.inputs[field.name] = dated ? event.target.value : Number(event.target.value);
    answer().catch(report);
  };
  return label;
}

function statementRow(s) {
  const row = document.createElement("tr"), value = s.value === null ? "–" : s.relative ? `${(100 * s.value).toPrecision(3)} %` : short(s.value);
  for (const text of [words(s.quantity), s.lead_time ?? "–", s.norm, value, s.kind, s.level ?? "–", s.reading, s.assumptions.join("; ")])
    row.insertCell().textContent = text;
  row.cells[4].className = s.kind;
  return row;
}

// Pictures, words and statements of one lead time.
function showFrame(frame, found) {
  for (const update of state.updates) update(frame);
  const lead = state.leads[frame], units = state.model.lead_times?.units, date = found.valid_times?.[frame];
  element("moment").textContent = `t = ${short(lead ?? 0)}${units === "1" ? "" : ` ${units}`}${date ? `, ${date.slice(0, 16).replace("T", " ")} UTC` : ""}`;
  const here = found.statements.filter((s) => (s.lead_time ?? null) === null || Math.abs(s.lead_time - lead) < 1e-6 * Math.max(1, Math.abs(lead)));
  element("statements").replaceChildren(...here.map(statementRow));
}

function question() {
  const deep = state.model.outputs.filter((field) => field.name.includes("depth")), thresholds = Object.fromEntries(deep.map((f) => [f.name, DEPTHS]));
  return { inputs: state.inputs, level: Number(element("level").value), quantiles: QUANTILES, thresholds, encoding: "base64" };
}

const path = () => `/v1/models/${state.model.name}/${state.model.lead_times ? "forecast" : "predict"}`;

async function answer() {
  element("message").textContent = "";
  const found = await call(path(), question()), slider = element("frame"), verdict = found.validity;
  state.updates = []; state.leads = Array.from(decode(found.lead_times?.data) ?? []);
  element("outputs").replaceChildren(...state.model.outputs.flatMap((field) =>
    draw(field, { ...found.outputs[field.name], uncertainty: found.uncertainty?.[field.name], plain: "magma" })));
  slider.max = Math.max(0, state.leads.length - 1);
  element("frames").hidden = state.leads.length === 0;
  slider.oninput = () => showFrame(Number(slider.value), found);
  slider.oninput();
  const [known, odd] = [`The input belongs to the training law (p = ${verdict.p_value.toFixed(3)}).`, `Out of domain, no band is claimed: ${verdict.reasons.join("; ")}`];
  Object.assign(element("validity"), verdict.in_domain ? { className: "", textContent: known } : { className: "outside", textContent: odd });
  element("route").textContent = "Time: " + found.route.map((s) => `${words(s.step)} ${s.milliseconds.toFixed(1)} ms`).join(" · ");
  await explain();
}

// What drives the mean over the central square, for steady maps.
async function explain() {
  const { model } = state, [source, target] = [model.inputs[0], model.outputs[0]];
  element("explanation").replaceChildren();
  element("explained").hidden = true;
  if (model.lead_times || source.axes.length !== 2 || target.axes.length !== 2) return;
  const square = target.axes.map((axis) => [axis.name, [0.4, 0.6].map((s) => axis.start + s * (axis.stop - axis.start))]);
  const quantity = { type: "region_mean", ...(model.outputs.length > 1 ? { field: target.name } : {}), ...Object.fromEntries(square) };
  const found = await call(`/v1/models/${model.name}/explain`, { inputs: state.inputs, quantity, encoding: "base64", regions: 4 });
  const values = decode(found.attribution[source.name].data), most = Math.max(...limits(values).map(Math.abs));
  const figure = panel(`${words(source.name)} → mean ${words(target.name)} of the central square`);
  map(figure, source.axes, { name: "signed", low: -most, high: most })(values);
  element("explanation").replaceChildren(figure);
}

// The same for any model, as the service draws it; at the lead time on display.
async function drawExplanation() {
  const { model, leads } = state, target = model.outputs[0], quantity = { type: "region_mean" };
  for (const axis of target.axes.filter((a) => !a.labels?.length && a.name !== "lead_time"))
    quantity[axis.name] = [0.4, 0.6].map((s) => axis.start + s * (axis.stop - axis.start));
  if (model.lead_times?.input || target.axes[0]?.name === "lead_time") quantity.lead_time = leads[Number(element("frame").value)];
  element("explained").src = URL.createObjectURL(await picture(`/v1/models/${model.name}/explain`, { inputs: state.inputs, quantity }, "image/png"));
  element("explained").hidden = false;
}

async function picture(url, body, kind) {
  const found = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json", Accept: kind }, body: JSON.stringify(body) });
  if (!found.ok) throw new Error((await found.json()).detail || found.statusText);
  return found.blob();
}

async function save({ kind, ending }) {
  const link = { href: URL.createObjectURL(await picture(path(), question(), kind)), download: `${state.model.name}.${ending}` };
  Object.assign(document.createElement("a"), link).click();
}

async function show() {
  const [name, seed, level] = ["model", "seed", "level"].map((id) => element(id).value), base = `/v1/models/${name}`;
  history.replaceState(null, "", `?${new URLSearchParams({ model: name, seed, level })}`);
  state.model = await call(base);
  state.inputs = (await call(`${base}/example?seed=${seed}&encoding=base64${state.model.lead_times ? "&call=forecast" : ""}`)).inputs;
  element("title").textContent = state.model.title;
  element("equation").textContent = state.model.equation ?? "";
  element("card").href = `${base}/card`;
  const given = state.model.inputs.filter((field) => field.name in state.inputs);
  const shown = given.filter((field) => field.axes.length && !(field.role === "history" && field.axes[1]?.labels?.length)); // drawn with its forecast
  element("scalars").replaceChildren(...given.filter((field) => !field.axes.length).map(scalarControl));
  element("inputs").replaceChildren(...shown.flatMap((field) => draw(field, { data: state.inputs[field.name], plain: "viridis" })));
  element("frame").value = 0;
  await answer();
}

element("explain").onclick = () => drawExplanation().catch(report);
for (const button of document.querySelectorAll("[data-kind]")) button.onclick = () => save(button.dataset).catch(report);

async function start() {
  const { models } = await call("/v1/models"), asked = new URLSearchParams(location.search);
  for (const model of models) element("model").append(new Option(model.title, model.name));
  for (const id of ["model", "seed", "level"]) if (asked.has(id)) element(id).value = asked.get(id);
  element("model").onchange = () => show().catch(report);
  if (models.length) await show(); else element("message").textContent = "No model is served.";
}

element("form").addEventListener("submit", (event) => { event.preventDefault(); show().catch(report); });
start().catch(report);
