// Which mode? Time and memory of jacfwd and jacrev over the number of inputs, from measurements
// (modes.json, by benchmarks/modes_grid.py). Between two measured sizes all is read off straight
// lines in logarithms; beyond the measured sizes nothing is said.

import {
  axes, html, live, minus, polyline, radios, row, slider, superscript, svg, uniqueId,
} from "./controls.js";

const MODES = ["jacfwd", "jacrev"];
const LOOK = { jacfwd: "dt-first", jacrev: "dt-second dt-dashed" };
const QUANTITIES = {
  seconds: { title: "time", best: "is faster", same: "take the same time" },
  bytes: { title: "memory", best: "needs less", same: "need the same memory" },
};

// Where a value lies among the measured ones: the index below it, and how far on in logarithms.
function locate(measured, value) {
  const last = measured.length - 2;
  let index = 0;
  while (index < last && value >= measured[index + 1]) index += 1;
  const [low, high] = [Math.log(measured[index]), Math.log(measured[index + 1])];
  const part = Math.min(Math.max((Math.log(value) - low) / (high - low), 0), 1);
  return [[index, 1 - part], [index + 1, part]];
}

export function interpolate(data, table, inputs, outputs, depth) {
  let sum = 0;
  for (const [i, a] of locate(data.inputs, inputs)) {
    for (const [j, b] of locate(data.outputs, outputs)) {
      for (const [k, c] of locate(data.depths, depth)) {
        if (a * b * c > 0) sum += a * b * c * Math.log(table[i][j][k]);
      }
    }
  }
  return Math.exp(sum);
}

// The numbers of inputs at which the two curves cross: they are straight between measured ones, and
// may be equal at some. `first` is negative where jacfwd has less to begin with, 0 if they are equal.
export function crossings(data, tables, outputs, depth) {
  const apart = [];
  data.inputs.forEach((n) => {
    const gap = Math.log(interpolate(data, tables.jacfwd, n, outputs, depth)) -
      Math.log(interpolate(data, tables.jacrev, n, outputs, depth));
    apart.push({ at: Math.log(n), gap: Math.abs(gap) < 1e-12 ? 0 : gap });
  });
  const unequal = apart.filter(({ gap }) => gap !== 0);
  const found = [];
  for (let k = 0; k + 1 < unequal.length; k += 1) {
    const [a, b] = [unequal[k], unequal[k + 1]];
    if (Math.sign(a.gap) === Math.sign(b.gap)) continue;
    const equal = apart.filter(({ at, gap }) => gap === 0 && at > a.at && at < b.at);
    const where = equal.length
      ? (equal[0].at + equal.at(-1).at) / 2
      : a.at + (a.gap / (a.gap - b.gap)) * (b.at - a.at);
    found.push(Math.exp(where));
  }
  return { found, first: unequal.length ? unequal[0].gap : 0 };
}

const significant = (value, digits = 2) => minus(String(Number(value.toPrecision(digits))));

function seconds(value) {
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (value >= size) return `${significant(value / size)} ${unit}`;
  }
  return `${significant(value * 1e9)} ns`;
}

function bytes(value) {
  for (const [unit, size] of [["MB", 1e6], ["kB", 1e3]]) {
    if (value >= size) return `${significant(value / size)} ${unit}`;
  }
  return `${significant(value)} bytes`;
}

const SAY = { seconds, bytes };
const whole = (value) => (value < 10 ? significant(value) : String(Math.round(value)));

export async function figure() {
  const answer = await fetch(new URL("modes.json", import.meta.url));
  if (!answer.ok) throw new Error(`modes.json: ${answer.status}`);
  const data = await answer.json();

  const framework = radios({
    label: "Framework", name: "framework", value: "jax", change: () => update(),
    options: { jax: "JAX, compiled", torch: "PyTorch, eager" },
  });
  const powers = (label, name, measured, value) => slider({
    label, name, min: Math.log2(measured[0]), max: Math.log2(measured.at(-1)), step: 0.5,
    value: Math.log2(value), format: (x) => String(Math.round(2 ** x)), change: () => update(),
  });
  const inputs = powers("inputs n", "inputs", data.inputs, 16);
  const outputs = powers("outputs m", "outputs", data.outputs, 64);
  const depth = powers("depth", "depth", data.depths, 16);
  const plots = html("div", { class: "dt-plots" });
  const words = Object.fromEntries(Object.keys(QUANTITIES).map((key) => [key, live(key)]));
  const heading = uniqueId("heading");
  const root = html(
    "section", { class: "dt-interactive", "aria-labelledby": heading },
    html("p", { class: "dt-title", id: heading }, "Which mode?"),
    row(framework.root),
    html("div", { class: "dt-sliders" }, inputs.root, outputs.root, depth.root),
    plots,
    html(
      "p", { class: "dt-legend" },
      html("span", { class: "dt-first" }, html("span", { class: "dt-key" }), "jacfwd"), "\u2003",
      html("span", { class: "dt-second" },
        html("span", { class: "dt-key dt-dashed" }), "jacrev"),
      "\u2003Dots: measured. Lines: read off between them.",
    ),
    words.seconds, words.bytes,
    html(
      "p", {},
      `Measured on ${data.date} on one thread of ${data.machine} with PyTorch ` +
        `${data.versions.torch} and JAX ${data.versions.jax}: a chain of as many layers of ` +
        `${data.width} units as the depth says.`,
    ),
  );

  const size = (control) => 2 ** control.input.valueAsNumber;

  function update() {
    for (const [key, { title, best, same }] of Object.entries(QUANTITIES)) {
      const tables = data[key][framework.value];
      const now = MODES.map((mode) =>
        interpolate(data, tables[mode], size(inputs), size(outputs), size(depth)));
      const { found, first } = crossings(data, tables, size(outputs), size(depth));
      let sentence;
      if (found.length === 0) {
        sentence = first === 0
          ? `Over all measured n both ${same}.`
          : `The curves do not cross: over all measured n ` +
            `${first < 0 ? "jacfwd" : "jacrev"} ${best}.`;
      } else {
        const modes = first < 0 ? MODES : [...MODES].reverse();
        const pieces = found.map((n, k) =>
          `${k ? "then " : ""}${modes[k % 2]} ${best} up to about n = ${whole(n)}`);
        sentence = `The curves cross: ${pieces.join(", ")}, and ` +
          `${modes[found.length % 2]} beyond.`;
      }
      words[key].replaceChildren(
        html("strong", {}, `${title[0].toUpperCase()}${title.slice(1)}. `),
        `At n = ${Math.round(size(inputs))}: `,
        ...MODES.flatMap((mode, k) => [
          k ? ", " : "", `${mode} `,
          html("span", { "data-name": `${key}-${mode}`, "data-value": now[k] }, SAY[key](now[k])),
        ]),
        ". ",
        html("span", {
          "data-name": `${key}-crossing`, "data-value": found.join(" "),
        }, sentence),
      );
    }
    plots.replaceChildren(...Object.keys(QUANTITIES).map(draw));
  }

  function draw(key) {
    const tables = data[key][framework.value];
    const values = MODES.flatMap((mode) => tables[mode].flat(2));
    const low = Math.floor(Math.log10(Math.min(...values)));
    const high = Math.ceil(Math.log10(Math.max(...values)));
    const ticks = Array.from({ length: high - low + 1 }, (_, k) => 10 ** (low + k));
    const units = key === "seconds" ? "s" : "bytes";
    const [width, height] = [330, 270];
    const area = axes({
      width, height, left: 56, right: 12, top: 22,
      x: {
        from: data.inputs[0], to: data.inputs.at(-1), ticks: data.inputs, text: String,
        label: "inputs n",
      },
      y: {
        from: 10 ** low, to: 10 ** high, ticks,
        text: (y) => `10${superscript(Math.round(Math.log10(y)))}`,
      },
    });
    const at = (mode, n) => interpolate(data, tables[mode], n, size(outputs), size(depth));
    const onGrid = [[outputs, data.outputs], [depth, data.depths]].every(([control, measured]) =>
      measured.some((each) => Math.abs(Math.log2(each) - control.input.valueAsNumber) < 1e-9));
    const curves = MODES.flatMap((mode) => [
      svg("path", {
        class: `dt-curve ${LOOK[mode]}`,
        d: polyline(data.inputs.map((n) => [area.toX(n), area.toY(at(mode, n))])),
      }),
      ...(onGrid ? data.inputs : []).map((n) => svg("circle", {
        class: `dt-measured ${LOOK[mode]}`, cx: area.toX(n), cy: area.toY(at(mode, n)), r: 3,
      })),
    ]);
    const n = size(inputs);
    const { found } = crossings(data, tables, size(outputs), size(depth));
    const marks = found.flatMap((where) => {
      const [x, y] = [area.toX(where), area.toY(at("jacfwd", where))];
      const right = x > (area.left + area.right) / 2;
      return [
        svg("line", { class: "dt-crossing", x1: x, x2: x, y1: y - 12, y2: y + 12 }),
        svg("line", { class: "dt-crossing", x1: x - 12, x2: x + 12, y1: y, y2: y }),
        found.length > 1 ? null : svg("text", {
          class: "dt-crossing-text", x: x + (right ? -8 : 8), y: y + (right ? -16 : 28),
          "text-anchor": right ? "end" : "start",
        }, `crossing: n ≈ ${whole(where)}`),
      ].filter(Boolean);
    });
    const { title } = QUANTITIES[key];
    return svg(
      "svg", {
        viewBox: `0 0 ${width} ${height}`, role: "img",
        "aria-label": `${title} of jacfwd and jacrev against the number of inputs, for ` +
          `${Math.round(size(outputs))} outputs and depth ${Math.round(size(depth))}; both axes ` +
          "logarithmic. The text below says the numbers and the crossing.",
      },
      area.group,
      svg("text", { class: "dt-name", x: area.left, y: 13 }, `${title} (${units})`),
      svg("line", {
        class: "dt-here", x1: area.toX(n), x2: area.toX(n), y1: area.top, y2: area.bottom,
      }),
      ...curves, ...marks,
      ...MODES.map((mode) => svg("circle", {
        class: `dt-marker ${LOOK[mode].split(" ")[0]}`, cx: area.toX(n),
        cy: area.toY(at(mode, n)), r: 5,
      })),
    );
  }

  update();
  return root;
}
