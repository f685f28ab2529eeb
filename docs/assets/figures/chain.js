// Walk the chain: a computation graph, primals and tangents forward, cotangents back.

import {
  button, html, live, number, onWidth, radios, row, select, slider, svg, uniqueId,
} from "./controls.js";

// Each operation: its value, the slope towards each operand, and how it is written.
const OPERATIONS = {
  add: { value: (a, b) => a + b, slopes: () => [1, 1], text: (a, b) => `${a} + ${b}` },
  mul: { value: (a, b) => a * b, slopes: (a, b) => [b, a], text: (a, b) => `${a} · ${b}` },
  square: { value: (a) => a * a, slopes: (a) => [2 * a], text: (a) => `${a}²` },
  sin: { value: Math.sin, slopes: (a) => [Math.cos(a)], text: (a) => `sin ${a}` },
  exp: { value: Math.exp, slopes: (a) => [Math.exp(a)], text: (a) => `exp ${a}` },
  log: { value: Math.log, slopes: (a) => [1 / a], text: (a) => `log ${a}` },
};

// A node: its operation, the nodes that it is made of, and its place (level, lane) in the drawing.
const node = (operation, of, level, lane) => ({ operation, of, level, lane });
const INPUTS = [node(null, [], 0, 0), node(null, [], 0, 1)];
const FUNCTIONS = {
  sine: {
    title: "sin(x₁ x₂) + x₁",
    nodes: [
      ...INPUTS, node("mul", [0, 1], 1, 1), node("sin", [2], 2, 1), node("add", [3, 0], 3, 0),
    ],
    outputs: [4],
  },
  logsumexp: {
    title: "log(exp x₁ + exp x₂)",
    nodes: [
      ...INPUTS, node("exp", [0], 1, 0), node("exp", [1], 1, 1), node("add", [2, 3], 2, 0.5),
      node("log", [4], 3, 0.5),
    ],
    outputs: [5],
  },
  polynomial: {
    title: "((x₁ + x₂)², (x₁ + x₂) x₂), two outputs",
    nodes: [
      ...INPUTS, node("add", [0, 1], 1, 0.2), node("square", [2], 2, 0), node("mul", [2, 1], 2, 1),
    ],
    outputs: [3, 4],
  },
};

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
const nameOf = (index) => `v${SUBSCRIPTS[index + 1]}`;

// Everything at once: dual numbers forward, then the reverse sweep, one entry for each node.
export function evaluate(program, inputs, tangents, cotangents) {
  const primal = [];
  const tangent = [];
  const slopes = [];
  program.nodes.forEach(({ operation, of }, index) => {
    if (operation === null) {
      primal.push(inputs[index]);
      tangent.push(tangents[index]);
      slopes.push([]);
      return;
    }
    const operands = of.map((from) => primal[from]);
    slopes.push(OPERATIONS[operation].slopes(...operands));
    primal.push(OPERATIONS[operation].value(...operands));
    tangent.push(of.reduce((sum, from, k) => sum + slopes[index][k] * tangent[from], 0));
  });
  // What each node's cotangent is after each step of the reverse sweep; null: nothing arrived yet.
  const now = program.nodes.map(() => null);
  program.outputs.forEach((index, k) => (now[index] = cotangents[k]));
  const reverse = [[...now]];
  const order = program.nodes.map((_, index) => index).filter((i) => program.nodes[i].operation);
  for (const index of order.reverse()) {
    program.nodes[index].of.forEach((from, k) => {
      now[from] = (now[from] ?? 0) + slopes[index][k] * now[index];
    });
    reverse.push([...now]);
  }
  const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);
  const pushed = program.outputs.map((index) => tangent[index]);
  const pulled = now.slice(0, inputs.length);
  return {
    primal, tangent, slopes, reverse, order, cotangent: now, pushed, pulled,
    forwardProduct: dot(cotangents, pushed), reverseProduct: dot(pulled, tangents),
  };
}

function expression(program, index) {
  const { operation, of } = program.nodes[index];
  if (operation === null) return `x${SUBSCRIPTS[index + 1]}`;
  return OPERATIONS[operation].text(...of.map(nameOf));
}

const plain = (value) => number(value, 4);
const vector = (values) =>
  values.length === 1 ? plain(values[0]) : `(${values.map(plain).join(", ")})`;
// A factor in a product, in brackets where its sign would be read as an operation.
const factor = (value) => (value < 0 ? `(${plain(value)})` : plain(value));

function forwardWords(program, all, step) {
  if (step === 0) return "Nothing is computed yet. Press “Next step”: the inputs come first.";
  const index = step - 1;
  const { operation, of } = program.nodes[index];
  const name = nameOf(index);
  const start = `Step ${step} of ${program.nodes.length}. `;
  if (operation === null) {
    return `${start}The input ${name} has the primal ${plain(all.primal[index])}, and you gave it ` +
      `the tangent ${plain(all.tangent[index])}.`;
  }
  const terms = of.map((from, k) =>
    `${factor(all.slopes[index][k])} · ${factor(all.tangent[from])}`);
  const end = program.outputs.includes(index) ? " It is an output." : "";
  return `${start}${name} = ${expression(program, index)} has the primal ` +
    `${plain(all.primal[index])}. Its tangent is the sum of slope · tangent over what it is made ` +
    `of: ${terms.join(" + ")} = ${plain(all.tangent[index])}.${end}`;
}

function reverseWords(program, all, step) {
  if (step === 0) {
    return "The function has run, and its primals were kept. No cotangent is known yet. Press " +
      "“Next step”: the outputs get theirs first.";
  }
  const start = `Step ${step} of ${all.reverse.length}. `;
  if (step === 1) {
    const seeds = program.outputs.map((index) =>
      `${nameOf(index)} gets the cotangent ${plain(all.cotangent[index])}`);
    return `${start}The output ${seeds.join(", the output ")}.`;
  }
  const index = all.order[step - 2];
  const sent = program.nodes[index].of.map((from, k) => {
    const before = all.reverse[step - 2][from];
    const product = `${factor(all.slopes[index][k])} · ${factor(all.cotangent[index])}`;
    const after = plain(all.reverse[step - 1][from]);
    return before === null
      ? `${nameOf(from)} gets slope · cotangent = ${product} = ${after}`
      : `${nameOf(from)} was used before and had ${plain(before)}: it adds ${product}, which makes ` +
        `${after}`;
  });
  return `${start}${nameOf(index)} = ${expression(program, index)} sends its cotangent back. ` +
    `${sent.join("; ")}.`;
}

const BOX = { width: 132, height: 62 };

function drawing(program, all, direction, step, narrow, title) {
  const levels = Math.max(...program.nodes.map(({ level }) => level));
  const size = narrow
    ? { width: 320, height: (levels + 1) * 108 - 40 }
    : { width: 680, height: 188 };
  const spread = narrow ? 108 : (size.width - BOX.width - 4) / levels;
  const place = ({ level, lane }) => narrow
    ? { x: 80 + lane * 160, y: 33 + level * spread }
    : { x: 2 + BOX.width / 2 + level * spread, y: 33 + lane * 120 };
  const shown = (index) => direction === "reverse" || index < step;
  const current = direction === "forward" ? step - 1 : step >= 2 ? all.order[step - 2] : null;

  const edges = svg("g");
  const labels = svg("g");
  program.nodes.forEach(({ of }, index) => of.forEach((from, k) => {
    const a = place(program.nodes[from]);
    const b = place(program.nodes[index]);
    const [start, end] = narrow
      ? [{ x: a.x, y: a.y + BOX.height / 2 }, { x: b.x, y: b.y - BOX.height / 2 }]
      : [{ x: a.x + BOX.width / 2, y: a.y }, { x: b.x - BOX.width / 2, y: b.y }];
    // Two operands of one node arrive apart from each other.
    const lanes = of.map((operand) => program.nodes[operand].lane);
    const side = of.length < 2 ? 0 : Math.sign(lanes[k] - lanes[1 - k]) / 2;
    const shift = side * (narrow ? 44 : 22);
    if (narrow) end.x += shift;
    else end.y += shift;
    const half = narrow ? (end.y - start.y) / 2 : (end.x - start.x) / 2;
    const [c, d] = narrow
      ? [{ x: start.x, y: start.y + half }, { x: end.x, y: end.y - half }]
      : [{ x: start.x + half, y: start.y }, { x: end.x - half, y: end.y }];
    const active = current === index;
    edges.append(svg("path", {
      class: `dt-edge${active ? ` dt-active dt-${direction}` : ""}`,
      d: `M${start.x},${start.y} C${c.x},${c.y} ${d.x},${d.y} ${end.x},${end.y}`,
    }));
    if (shown(index)) {
      const middle = (p, q, r, s) => (p + 3 * q + 3 * r + s) / 8;
      labels.append(svg("text", {
        class: "dt-slope", "text-anchor": "middle",
        x: middle(start.x, c.x, d.x, end.x), y: middle(start.y, c.y, d.y, end.y) + 4,
      }, `×${number(all.slopes[index][k], 2)}`));
    }
  }));

  const boxes = svg("g");
  program.nodes.forEach((each, index) => {
    const { x, y } = place(each);
    const seeded = direction === "reverse" && step === 1 && program.outputs.includes(index);
    const cotangent = step > 0 ? all.reverse[step - 1]?.[index] ?? null : null;
    const text = (dx, dy, kind, anchor, content) => svg("text", {
      class: kind, x: x + dx, y: y + dy, "text-anchor": anchor,
    }, content);
    boxes.append(
      svg("rect", {
        class: `dt-node${current === index || seeded ? ` dt-active dt-${direction}` : ""}`,
        x: x - BOX.width / 2, y: y - BOX.height / 2, width: BOX.width, height: BOX.height, rx: 7,
      }),
      text(0, -14, "dt-name", "middle", `${nameOf(index)} = ${expression(program, index)}`),
      text(0, 4, "dt-primal", "middle", shown(index) ? number(all.primal[index], 3) : "?"),
    );
    if (direction === "forward" && shown(index)) {
      boxes.append(text(0, 22, "dt-tangent", "middle", `→ ${number(all.tangent[index], 3)}`));
    }
    if (direction === "reverse" && cotangent !== null) {
      boxes.append(text(0, 22, "dt-cotangent", "middle", `← ${number(cotangent, 3)}`));
    }
  });
  return svg(
    "svg", {
      viewBox: `0 0 ${size.width} ${size.height}`, role: "img", "aria-label": title,
      class: narrow ? "dt-narrow" : "dt-wide",
    }, edges, labels, boxes,
  );
}

export function figure() {
  const state = { step: 0, narrow: false, walked: { forward: false, reverse: false } };
  const choice = select({
    label: "Function", name: "function", value: "sine",
    options: Object.fromEntries(Object.entries(FUNCTIONS).map(([key, f]) => [key, f.title])),
    change: () => restart(true),
  });
  const direction = radios({
    label: "Direction", name: "direction", value: "forward",
    options: { forward: "forward (JVP)", reverse: "reverse (VJP)" },
    change: () => restart(false),
  });
  const knob = (label, name, value, min = -2, max = 2) => slider({
    label, name, min, max, step: 0.1, value, format: (x) => number(x, 1), change: () => update(),
  });
  const inputs = [knob("input x₁", "x1", 0.5), knob("input x₂", "x2", 1.2)];
  const tangents = [knob("tangent t₁", "t1", 1), knob("tangent t₂", "t2", 0.5)];
  const cotangents = [knob("cotangent g₁", "g1", 1), knob("cotangent g₂", "g2", 0.5)];
  const buttons = {
    back: button("Step back", "back", () => go(state.step - 1)),
    next: button("Next step", "next", () => go(state.step + 1)),
    end: button("To the end", "end", () => go(Infinity)),
    reset: button("Start again", "reset", () => go(0)),
  };
  const words = live("step");
  const graph = html("div", { class: "dt-graph" });
  const products = html("dl", { class: "dt-products", "aria-live": "polite" });
  const table = html("table", {});
  const details = html(
    "details", { class: "dt-details" }, html("summary", {}, "All numbers of this sweep"),
    html("div", { class: "dt-scroll", tabindex: 0, role: "region", "aria-label": "All numbers" },
      table),
  );
  const legend = html("p", { class: "dt-legend" });
  const heading = uniqueId("heading");
  const root = html(
    "section", { class: "dt-interactive", "aria-labelledby": heading },
    html("p", { class: "dt-title", id: heading }, "Walk the chain"),
    row(choice.root, direction.root),
    html("div", { class: "dt-sliders" },
      ...[...inputs, ...tangents, ...cotangents].map((each) => each.root)),
    row(buttons.next, buttons.back, buttons.end, buttons.reset),
    graph, legend, words, products, details,
  );

  const program = () => FUNCTIONS[choice.value];
  const compute = () => evaluate(
    program(), inputs.map((s) => s.value), tangents.map((s) => s.value),
    program().outputs.map((_, k) => cotangents[k].value),
  );
  const last = (all) =>
    direction.value === "forward" ? program().nodes.length : all.reverse.length;

  function restart(forget) {
    if (forget) state.walked = { forward: false, reverse: false };
    state.step = 0;
    update();
  }

  function go(step) {
    state.step = Math.min(Math.max(step, 0), last(compute()));
    update();
  }

  function update() {
    const all = compute();
    const forward = direction.value === "forward";
    const end = last(all);
    if (state.step === end) state.walked[direction.value] = true;
    cotangents[1].root.hidden = program().outputs.length < 2;
    // A button that is switched off would lose the keyboard's focus.
    buttons.next.setAttribute("aria-disabled", state.step === end);
    buttons.end.setAttribute("aria-disabled", state.step === end);
    buttons.back.setAttribute("aria-disabled", state.step === 0);
    buttons.reset.setAttribute("aria-disabled", state.step === 0);
    const say = forward ? forwardWords : reverseWords;
    words.textContent = say(program(), all, state.step);
    graph.replaceChildren(drawing(
      program(), all, direction.value, state.step, state.narrow,
      `Computation graph of ${program().title}, step ${state.step} of ${end} of the ` +
        `${direction.value} sweep. Its numbers are in the table below.`,
    ));
    legend.replaceChildren(
      "In each box: the operation, its primal, and ",
      forward
        ? html("span", { class: "dt-tangent" }, "→ its tangent")
        : html("span", { class: "dt-cotangent" }, "← its cotangent"),
      ". On each line: × the slope.",
    );
    showProducts(all);
    showTable(all, forward);
  }

  function showProducts(all) {
    const entry = (name, term, value, text, walked, which) => [
      html("dt", {}, term),
      html("dd", { "data-name": name, "data-value": walked ? value : undefined },
        walked ? text : `walk ${which} to the end to see it`),
    ];
    const { forward, reverse } = state.walked;
    products.replaceChildren(
      ...entry("Jt", "J t", all.pushed.join(" "), vector(all.pushed), forward, "forward"),
      ...entry("Jg", "J* g", all.pulled.join(" "), vector(all.pulled), reverse, "in reverse"),
      ...entry("forward-product", "⟨g, J t⟩", all.forwardProduct,
        number(all.forwardProduct, 6), forward, "forward"),
      ...entry("reverse-product", "⟨J* g, t⟩", all.reverseProduct,
        number(all.reverseProduct, 6), reverse, "in reverse"),
    );
  }

  function showTable(all, forward) {
    const known = (index) => !forward || index < state.step;
    const cell = (value) =>
      html("td", value === null ? {} : { "data-value": value },
        value === null ? "not yet" : number(value, 6));
    table.replaceChildren(
      html("thead", {}, html("tr", {}, ...["node", "primal", forward ? "tangent" : "cotangent"].map(
        (text) => html("th", { scope: "col" }, text)))),
      html("tbody", {}, ...program().nodes.map((_, index) => html(
        "tr", {},
        html("th", { scope: "row" }, `${nameOf(index)} = ${expression(program(), index)}`),
        cell(known(index) ? all.primal[index] : null),
        cell(forward
          ? (known(index) ? all.tangent[index] : null)
          : (state.step > 0 ? all.reverse[state.step - 1][index] : null)),
      ))),
    );
  }

  onWidth(graph, 600, (narrow) => {
    state.narrow = narrow;
    update();
  });
  update();
  return root;
}
