// Charts in SVG. Colours are in the style sheet, so that they follow the colour scheme and
// the printer.

const WIDTH = 420;
const HEIGHT = 300;
const MARGIN = { left: 50, right: 18, top: 10, bottom: 42 };
// Ticks of an axis are not nearer to each other than this share of it.
const TICK_DISTANCE = 0.08;

function draw(parent, name, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

/** An axis with ticks at round numbers. */
function linearAxis(label, low, high) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) {
    ticks.push({ value: n * step, text: (n * step).toFixed(digits) });
  }
  return { label, ticks, position: (value) => (value - low) / (high - low) };
}

/** An axis of rates from 0 to 1: a logarithm would have no place for 0. */
function rateAxis(label) {
  const rates = [0, 0.001, 0.01, 0.05, 0.2, 0.5, 1];
  const ticks = rates.map((value) => ({ value, text: `${100 * value}%` }));
  return { label, ticks, position: Math.cbrt };
}

class Chart {
  constructor(svg, xAxis, yAxis) {
    this.svg = svg;
    this.xAxis = xAxis;
    this.yAxis = yAxis;
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    const clip = draw(draw(svg, "defs", {}), "clipPath", { id: `${svg.id}-clip` });
    const [left, right] = [MARGIN.left, WIDTH - MARGIN.right];
    const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
    const box = { x: left, y: top, width: right - left, height: bottom - top };
    draw(clip, "rect", box);
    this.background = draw(svg, "g", {});
    const axes = draw(svg, "g", { class: "axes" });
    for (const { value, text } of spaced(xAxis)) {
      const x = this.x(value);
      draw(axes, "line", { x1: x, x2: x, y1: top, y2: bottom });
      draw(axes, "text", { x, y: bottom + 16, "text-anchor": "middle" }, text);
    }
    for (const { value, text } of spaced(yAxis)) {
      const y = this.y(value);
      draw(axes, "line", { x1: left, x2: right, y1: y, y2: y });
      draw(axes, "text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text);
    }
    const [middle, center] = [(left + right) / 2, (top + bottom) / 2];
    const below = { x: middle, y: HEIGHT - 5, "text-anchor": "middle" };
    draw(axes, "text", below, xAxis.label);
    const turned = `translate(10 ${center}) rotate(-90)`;
    draw(axes, "text", { transform: turned, "text-anchor": "middle" }, yAxis.label);
    this.plot = draw(svg, "g", { "clip-path": `url(#${svg.id}-clip)` });
  }

  x(value) {
    const width = WIDTH - MARGIN.left - MARGIN.right;
    return MARGIN.left + width * this.xAxis.position(value);
  }

  y(value) {
    const height = HEIGHT - MARGIN.top - MARGIN.bottom;
    return HEIGHT - MARGIN.bottom - height * this.yAxis.position(value);
  }

  path(kind) {
    return draw(this.plot, "path", { class: kind });
  }

  line(path, xs, ys) {
    path.setAttribute("d", `M${this.points(xs, ys)}`);
  }

  band(kind, xs, [low, high]) {
    const back = this.points(xs, high).reverse();
    this.path(kind).setAttribute("d", `M${this.points(xs, low)}L${back}Z`);
  }

  points(xs, ys) {
    return Array.from(ys, (y, i) => `${this.x(xs[i]).toFixed(1)} ${this.y(y).toFixed(1)}`);
  }

  /** Draw dots; those at the same place are drawn once, however many there are. */
  dots(path, xs, ys) {
    const drawn = new Uint8Array(WIDTH * HEIGHT);
    const parts = [];
    for (let i = 0; i < xs.length; i++) {
      const x = Math.round(this.x(xs[i]));
      const y = Math.round(this.y(ys[i]));
      if (!drawn[y * WIDTH + x]++) parts.push(`M${x} ${y}h0`);
    }
    path.setAttribute("d", parts.join(""));
  }

  /** Draw a rectangle behind everything over a range of x. */
  range([low, high]) {
    const [x, y] = [this.x(low), MARGIN.top];
    const height = HEIGHT - MARGIN.bottom - y;
    const box = { x, y, width: this.x(high) - x, height, class: "range" };
    draw(this.background, "rect", box);
  }

  /** Draw or move a vertical line. */
  cursor(path, value) {
    const x = this.x(value).toFixed(1);
    path.setAttribute("d", `M${x} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}`);
  }

  /** Draw or move a mark at a place. */
  mark(path, x, y) {
    path.setAttribute("d", `M${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}h0`);
  }

  /** Where an event happened, in the units of `x()` and `y()`. */
  place(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = WIDTH / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }
}

function spaced(axis) {
  let last = -Infinity;
  return axis.ticks.filter(({ value }) => {
    const position = axis.position(value);
    if (position - last < TICK_DISTANCE) return false;
    last = position;
    return true;
  });
}
