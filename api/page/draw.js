// Drawings: maps on canvas, charts as SVG. Nothing here knows the service.

const COLOURS = {
  viridis: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
  magma: ["#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf"],
  cividis: ["#00224e", "#434e6c", "#7d7c78", "#bcaf6f", "#fee838"],
  signed: ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"],
  terrain: ["#4f7f5c", "#9bb36b", "#e3d9a1", "#b08d62", "#f3f0ec"],
  water: ["#a9d1ea", "#4a98c9", "#08458b", "#04193f"],
};
const HORIZONTAL = ["x", "longitude", "lon", "projection_x_coordinate", "grid_longitude"];
const DRY = 0.05, SVG = "http://www.w3.org/2000/svg"; // m
export const UNIT = (units) => (units === "1" ? "" : ` [${units}]`);
export const short = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());
export const limits = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

export function palette(field, values, plain) {
  const [low, high] = limits(values), most = Math.max(-low, high);
  const signed = (field.minimum ?? null) === null && low < 0 && high > 0 && field.units !== "degC";
  return signed ? { name: "signed", low: -most, high: most } : { name: plain, low, high };
}

function colour(name, share) {
  const stops = COLOURS[name], place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parts(stops[first]), parts(stops[first + 1])];
  return a.map((v, i) => v + (b[i] - v) * (place - first));
}

export function panel(title) {
  const figure = document.createElement("figure");
  figure.innerHTML = "<figcaption><span></span></figcaption>";
  figure.querySelector("span").textContent = title;
  return figure;
}

// A field on (y, x) has rows going up; one on (x, y) has columns going up.
function orient(axes) {
  const byRows = [axes[1].name, axes[1].standard_name].some((name) => HORIZONTAL.includes(name));
  const [across, up] = byRows ? [axes[1], axes[0]] : axes;
  return { across, up, at: byRows ? (i, j) => j * across.points + i : (i, j) => i * up.points + j };
}

// Light from the north-west, in [0, 1] with 0.75 for level ground.
export function hillshade(axes, values) {
  const { across, up, at } = orient(axes), slope = new Float64Array(values.length);
  const inside = (k, axis) => Math.min(Math.max(k, 0), axis.points - 1);
  for (let j = 0; j < up.points; j++) for (let i = 0; i < across.points; i++)
    slope[at(i, j)] = values[at(inside(i + 1, across), j)] - values[at(inside(i - 1, across), j)]
      - values[at(i, inside(j + 1, up))] + values[at(i, inside(j - 1, up))];
  const usual = slope.reduce((sum, v) => sum + Math.abs(v), 0) / slope.length || 1;
  return slope.map((v) => 0.75 + 0.22 * Math.tanh(v / usual / 1.5));
}

function paint(canvas, width, height, pixel) {
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let j = 0; j < height; j++) for (let i = 0; i < width; i++)
    image.data.set([...pixel(i, j), 255], 4 * (j * width + i));
  context.putImageData(image, 0, 0);
}

// Draws a map into the figure and returns the function that shows other values in the same colours.
export function map(figure, axes, colours, shade = null) {
  const { across, up, at } = orient(axes), share = (v) => (v - colours.low) / (colours.high - colours.low || 1);
  figure.insertAdjacentHTML("beforeend", "<canvas class=map></canvas><div class=bar><span></span><canvas></canvas><span></span></div><p></p>");
  const [canvas, bar] = figure.querySelectorAll("canvas"), note = figure.querySelector("p");
  const [left, right] = figure.querySelectorAll(".bar span");
  left.textContent = short(colours.low); right.textContent = short(colours.high);
  paint(bar, 200, 1, (i) => colour(colours.name, i / 199));
  const place = `${across.name}${UNIT(across.units)} → right, ${up.name}${UNIT(up.units)} → up`;
  note.textContent = place;
  let shown = [];
  canvas.onpointermove = (event) => {
    const i = Math.min(across.points - 1, Math.floor(event.offsetX / canvas.clientWidth * across.points));
    const j = up.points - 1 - Math.min(up.points - 1, Math.floor(event.offsetY / canvas.clientHeight * up.points));
    const position = (axis, k) => short(axis.start + (axis.stop - axis.start) * k / (axis.points - 1));
    note.textContent = `${across.name} = ${position(across, i)}, ${up.name} = ${position(up, j)}: ${short(shown[at(i, j)])}`;
  };
  return (values) => {
    shown = values;
    paint(canvas, across.points, up.points, (i, row) => {
      const k = at(i, up.points - 1 - row), grey = shade ? shade[k] : 1;
      if (colours.name === "water" && values[k] < DRY) return [228 * grey, 224 * grey, 214 * grey];
      return colour(colours.name, share(values[k])).map((v) => v * (shade ? 0.6 + 0.4 * grey : 1));
    });
  };
}

function add(parent, kind, attributes, text = "") {
  const node = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(Object.assign(node, { textContent: text }));
}

function ticks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low) / count || 1)), width = [1, 2, 5, 10].map((m) => m * step).find((w) => (high - low) / w <= count);
  const first = Math.ceil(low / width), last = Math.floor(high / width + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * width);
}

// bands: [{x, lower, upper, fill}], lines: [{x, y, stroke}]; `label` writes the ticks of the horizontal axis.
export function chart(figure, { bands = [], lines = [], range, xname, label = short, now = null }) {
  figure.querySelector("svg")?.remove();
  const svg = document.createElementNS(SVG, "svg"), [w, h, l, r, t, b] = [340, 220, 46, 8, 8, 36];
  svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
  const [x0, x1] = limits([...lines, ...bands].flatMap((part) => [...part.x])), [y0, y1] = range;
  const X = (v) => l + (v - x0) / (x1 - x0 || 1) * (w - l - r), Y = (v) => h - b - (v - y0) / (y1 - y0 || 1) * (h - b - t);
  const path = (x, y) => Array.from(y, (v, i) => `${X(x[i]).toFixed(1)},${Y(v).toFixed(1)}`);
  for (const v of ticks(y0, y1, 5)) {
    add(svg, "line", { x1: l, x2: w - r, y1: Y(v), y2: Y(v), stroke: "#e6ebf0" });
    add(svg, "text", { x: l - 6, y: Y(v) + 4, "text-anchor": "end" }, short(v));
  }
  for (const v of ticks(x0, x1, 4)) add(svg, "text", { x: X(v), y: h - b + 15, "text-anchor": "middle" }, label(v));
  add(svg, "text", { x: (l + w - r) / 2, y: h - 4, "text-anchor": "middle" }, xname);
  for (const { x, lower, upper, fill } of bands)
    add(svg, "polygon", { points: [...path(x, lower), ...path(x, upper).reverse()].join(" "), fill });
  if (now !== null) add(svg, "line", { x1: X(now), x2: X(now), y1: t, y2: h - b, stroke: "#8b97a5", "stroke-dasharray": "2 3" });
  for (const { x, y, stroke = "#23527c" } of lines)
    add(svg, "polyline", { points: path(x, y).join(" "), fill: "none", stroke, "stroke-width": 1.8, "stroke-linejoin": "round" });
  figure.querySelector("figcaption").after(svg);
}

export function padded(...lists) {
  const [low, high] = limits(lists.flatMap((values) => [...values])), margin = 0.06 * (high - low) || 1;
  return [low - margin, high + margin];
}
