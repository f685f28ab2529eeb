// The V: the error of a finite difference against its step, in float32 and float64, and what a
// mistake in the derivative makes of it.

import {
  axes, html, live, minus, number, onWidth, polyline, power, radios, row, select, slider,
  superscript, svg, uniqueId,
} from "./controls.js";

// A function is written with a rounding `r` after every operation: none for float64, Math.fround
// for float32. A derivative has terms, of which the planted mistake leaves the last one out.
const FUNCTIONS = {
  product: {
    title: "x sin x",
    value: (x, r) => r(x * r(Math.sin(x))),
    terms: (x) => [Math.sin(x), x * Math.cos(x)],
    missing: "x cos x",
  },
  sum: {
    title: "exp x + x²",
    value: (x, r) => r(r(Math.exp(x)) + r(x * x)),
    terms: (x) => [Math.exp(x), 2 * x],
    missing: "2x",
  },
  wave: {
    title: "sin x · exp x",
    value: (x, r) => r(r(Math.sin(x)) * r(Math.exp(x))),
    terms: (x) => [Math.cos(x) * Math.exp(x), Math.sin(x) * Math.exp(x)],
    missing: "sin x · exp x",
  },
};

const MISTAKES = {
  none: { title: "none", plant: (terms) => terms[0] + terms[1] },
  factor: { title: "a factor of 2", plant: (terms) => 2 * (terms[0] + terms[1]) },
  sign: { title: "the sign", plant: (terms) => -(terms[0] + terms[1]) },
  term: { title: "a missing term", plant: (terms) => terms[0] },
};

const ROUNDINGS = { float64: (x) => x, float32: Math.fround };
const FROM = -16; // powers of ten of the step
const TO = 0;
const BY = 0.125;
const FLOOR = 1e-13; // the axis ends here; smaller errors are drawn on it

export function difference(f, x, step, kind, precision) {
  const r = ROUNDINGS[precision];
  const [at, h] = [r(x), r(step)];
  const up = r(at + h);
  if (kind === "one-sided") return r(r(f.value(up, r) - f.value(at, r)) / h);
  const down = r(at - h);
  return r(r(f.value(up, r) - f.value(down, r)) / r(2 * h));
}

// |difference − claimed derivative| / |true derivative|.
export function error(name, x, exponent, kind, precision, mistake) {
  const f = FUNCTIONS[name];
  const terms = f.terms(x);
  const claimed = MISTAKES[mistake].plant(terms);
  const gap = Math.abs(difference(f, x, 10 ** exponent, kind, precision) - claimed);
  return gap / Math.abs(terms[0] + terms[1]);
}

const tenTo = (exponent) => `10${superscript(exponent)}`;
const step = (exponent) => Number.isInteger(exponent) ? tenTo(exponent) : power(10 ** exponent, 1);

export function figure() {
  const state = { narrow: false };
  const f = select({
    label: "Function", name: "function", value: "product", change: () => update(),
    options: Object.fromEntries(Object.entries(FUNCTIONS).map(([key, each]) => [key, each.title])),
  });
  const kind = radios({
    label: "Difference", name: "kind", value: "central", change: () => update(),
    options: { central: "central", "one-sided": "one-sided" },
  });
  const mistake = radios({
    label: "Planted mistake", name: "mistake", value: "none", change: () => update(),
    options: Object.fromEntries(Object.entries(MISTAKES).map(([key, each]) => [key, each.title])),
  });
  const point = slider({
    label: "point x", name: "point", min: 0.5, max: 1.5, step: 0.1, value: 1,
    format: (x) => number(x, 1), change: () => update(),
  });
  const exponent = slider({
    label: "step h", name: "step", min: FROM, max: TO, step: BY, value: -5,
    format: (x) => step(x), change: () => update(),
  });
  const plot = html("div", { class: "dt-graph" });
  const reading = live("reading");
  const verdict = live("verdict");
  const heading = uniqueId("heading");
  const root = html(
    "section", { class: "dt-interactive", "aria-labelledby": heading },
    html("p", { class: "dt-title", id: heading }, "The V: error of a difference against its step"),
    row(f.root, kind.root),
    row(mistake.root),
    html("div", { class: "dt-sliders" }, exponent.root, point.root),
    plot,
    html("p", { class: "dt-legend" },
      html("span", { class: "dt-first" }, html("span", { class: "dt-key" }), "float64"), "\u2003",
      html("span", { class: "dt-second" },
        html("span", { class: "dt-key dt-dashed" }), "float32")),
    reading, verdict,
  );

  const errorAt = (precision, at) =>
    error(f.value, point.value, at, kind.value, precision, mistake.value);

  // The lowest error over all steps; and the lowest and highest over those steps at which the
  // difference itself is within 1 % of the true slope.
  function over(precision) {
    const found = { error: Infinity, low: Infinity, high: 0 };
    for (let at = FROM; at <= TO; at += BY) {
      const now = errorAt(precision, at);
      if (now < found.error) Object.assign(found, { error: now, at });
      if (error(f.value, point.value, at, kind.value, precision, "none") > 0.01) continue;
      found.low = Math.min(found.low, now);
      found.high = Math.max(found.high, now);
    }
    return found;
  }

  function update() {
    const now = { float64: errorAt("float64", exponent.value) };
    now.float32 = errorAt("float32", exponent.value);
    const all = { float64: over("float64"), float32: over("float32") };
    const say = (value) => (value === 0 ? "0" : power(value, 1));
    reading.replaceChildren(
      `At h\u00a0=\u00a0${step(exponent.value)} the relative error is `,
      html("span", { "data-name": "float64", "data-value": now.float64 }, say(now.float64)),
      " in float64 and ",
      html("span", { "data-name": "float32", "data-value": now.float32 }, say(now.float32)),
      " in float32.",
    );
    const lowest = ({ error, at }) => `${say(error)} at h\u00a0=\u00a0${step(at)}`;
    const range = ({ low, high }) => `${number(low, 2)} and ${number(high, 2)}`;
    const missing = mistake.value === "term" ? `: ${FUNCTIONS[f.value].missing}` : "";
    verdict.dataset.shape = mistake.value === "none" ? "V" : "plateau";
    verdict.textContent = mistake.value === "none"
      ? "The derivative is right: the error falls to a lowest point and rises again, a V. Its " +
        `lowest point is ${lowest(all.float64)} in float64 and ${lowest(all.float32)} in float32.`
      : `The mistake (${MISTAKES[mistake.value].title}${missing}) makes the V a plateau: wherever ` +
        "the difference itself is within 1 % of the true slope, the error stays between " +
        `${range(all.float64)} in float64 and between ${range(all.float32)} in float32, ` +
        "whatever the step.";
    plot.replaceChildren(draw(now));
  }

  function draw(now) {
    const narrow = state.narrow;
    const whole = (from, to, by) =>
      Array.from({ length: Math.floor((to - from) / by) + 1 }, (_, k) => 10 ** (from + k * by));
    const area = axes({
      width: narrow ? 330 : 660, height: narrow ? 260 : 300, left: 60,
      x: {
        from: 10 ** FROM, to: 10 ** TO, ticks: whole(FROM, TO, narrow ? 4 : 2),
        text: (x) => tenTo(Math.round(Math.log10(x))), label: "step h",
      },
      y: {
        from: FLOOR, to: 100, ticks: whole(-12, 0, narrow ? 4 : 2),
        text: (y) => tenTo(Math.round(Math.log10(y))), label: "relative error",
      },
    });
    const height = (value) => area.toY(Math.min(Math.max(value, FLOOR), 100));
    const curve = (precision, look) => {
      const points = [];
      for (let at = FROM; at <= TO + 1e-9; at += BY) {
        points.push([area.toX(10 ** at), height(errorAt(precision, at))]);
      }
      return svg("path", { class: `dt-curve ${look}`, d: polyline(points) });
    };
    const x = area.toX(10 ** exponent.value);
    return svg(
      "svg", {
        viewBox: `0 0 ${narrow ? 330 : 660} ${narrow ? 260 : 300}`, role: "img",
        class: narrow ? "dt-narrow" : "dt-wide",
        "aria-label": `Relative error of the ${kind.value} difference of ${
          FUNCTIONS[f.value].title} at x = ${minus(point.value)} against the step, both axes ` +
          "logarithmic. The text below says its lowest points.",
      },
      area.group,
      svg("line", { class: "dt-here", x1: x, x2: x, y1: area.top, y2: area.bottom }),
      curve("float64", "dt-first"),
      curve("float32", "dt-second dt-dashed"),
      svg("circle", { class: "dt-marker dt-first", cx: x, cy: height(now.float64), r: 5 }),
      svg("circle", { class: "dt-marker dt-second", cx: x, cy: height(now.float32), r: 5 }),
    );
  }

  onWidth(plot, 480, (narrow) => {
    state.narrow = narrow;
    update();
  });
  update();
  return root;
}
