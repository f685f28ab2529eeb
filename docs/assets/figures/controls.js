// What the figures share: elements, controls that work by keyboard and say what they are, numbers.

const SVG = "http://www.w3.org/2000/svg";
let count = 0;

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const uniqueId = (stem) => `dt-${stem}-${(count += 1)}`;

// A number as a person reads it: a true minus sign, powers of ten for the very small and large.
export function number(value, digits = 4) {
  if (!Number.isFinite(value)) return "not a number";
  const size = Math.abs(value);
  if (size !== 0 && (size < 10 ** -digits || size >= 1e6)) return power(value);
  const text = value.toFixed(digits);
  return minus(Number(text) === 0 ? (0).toFixed(digits) : text);
}

export function power(value, digits = 1) {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits).split("e");
  return minus(`${mantissa} × 10`) + superscript(Number(exponent));
}

export const minus = (text) => String(text).replace(/-/g, "−");

export const superscript = (integer) =>
  [...String(integer)].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)])).join("");

// A slider with its name before and its value after it; `format` says the value in words.
export function slider({ label, name, min, max, step, value, format = String, change }) {
  const id = uniqueId("slider");
  const input = html("input", { type: "range", id, name, min, max, step, value });
  const output = html("output", { for: id });
  const say = () => {
    output.textContent = format(input.valueAsNumber);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => {
    say();
    change();
  });
  say();
  return {
    root: html("div", { class: "dt-slider" }, html("label", { for: id }, label), input, output),
    input,
    get value() {
      return input.valueAsNumber;
    },
    set value(to) {
      input.value = to;
      say();
    },
    say,
  };
}

// One of a few: a radio group with a name of its own. `options` maps values to labels.
export function radios({ label, name, options, value, change }) {
  const group = uniqueId(name);
  const inputs = Object.entries(options).map(([key, text]) => {
    const id = uniqueId("radio");
    const input = html("input", {
      type: "radio", id, name: group, value: key, checked: key === value, onchange: change,
    });
    return [input, html("label", { for: id }, input, html("span", {}, text))];
  });
  return {
    root: html(
      "fieldset", { class: "dt-radios", "data-name": name },
      html("legend", {}, label), ...inputs.map(([, whole]) => whole),
    ),
    get value() {
      return inputs.find(([input]) => input.checked)[0].value;
    },
  };
}

export function select({ label, name, options, value, change }) {
  const id = uniqueId("select");
  const input = html(
    "select", { id, name, onchange: change },
    ...Object.entries(options).map(([key, text]) =>
      html("option", { value: key, selected: key === value }, text)),
  );
  return {
    root: html("div", { class: "dt-select" }, html("label", { for: id }, label), input),
    get value() {
      return input.value;
    },
  };
}

export function button(text, name, press) {
  return html("button", { type: "button", class: "dt-button", name, onclick: press }, text);
}

// What changed, in words: read out by screen readers when they are done with what they say now.
export const live = (name) =>
  html("p", { class: "dt-live", "aria-live": "polite", "aria-atomic": "true", "data-live": name });

export const row = (...children) => html("div", { class: "dt-row" }, ...children);

// Calls `draw(narrow)` when the element first has a width and when it crosses `limit` pixels.
export function onWidth(element, limit, draw) {
  let narrow = null;
  new ResizeObserver(([entry]) => {
    const now = entry.contentRect.width < limit;
    if (entry.contentRect.width > 0 && now !== narrow) draw((narrow = now));
  }).observe(element);
}

// A pair of axes with scales that may be logarithmic; `x` and `y`: {from, to, ticks, text, label}.
export function axes({ width, height, left = 58, right = 14, top = 14, bottom = 44, x, y }) {
  const scale = (axis, start, end) => (value) => {
    const at = (axis.at ?? Math.log10)(value);
    const low = (axis.at ?? Math.log10)(axis.from);
    const high = (axis.at ?? Math.log10)(axis.to);
    return start + ((at - low) / (high - low)) * (end - start);
  };
  const toX = scale(x, left, width - right);
  const toY = scale(y, height - bottom, top);
  const group = svg("g", { class: "dt-axes" });
  for (const tick of x.ticks) {
    group.append(
      svg("line", { class: "dt-grid", x1: toX(tick), x2: toX(tick), y1: top, y2: height - bottom }),
      svg("text", { x: toX(tick), y: height - bottom + 17, "text-anchor": "middle" }, x.text(tick)),
    );
  }
  for (const tick of y.ticks) {
    group.append(
      svg("line", { class: "dt-grid", x1: left, x2: width - right, y1: toY(tick), y2: toY(tick) }),
      svg("text", { x: left - 7, y: toY(tick) + 4, "text-anchor": "end" }, y.text(tick)),
    );
  }
  group.append(
    svg("path", { class: "dt-axis", d: `M${left},${top} V${height - bottom} H${width - right}` }),
    svg("text", {
      class: "dt-axis-label", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle",
    }, x.label),
  );
  if (y.label) {
    group.append(svg("text", {
      class: "dt-axis-label", "text-anchor": "middle",
      transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`,
    }, y.label));
  }
  return { group, toX, toY, left, right: width - right, top, bottom: height - bottom };
}

export const polyline = (points) =>
  points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
