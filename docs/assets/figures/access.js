// Mends what the theme leaves open for keyboards and screen readers.

// What scrolls by itself on a narrow window must be reachable by keyboard: wide pictures, formulas.
const SCROLLING = ".dt-plot, div.arithmatex";

function reachable(element) {
  if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
  else element.removeAttribute("tabindex");
}

const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => reachable(target)));
document.querySelectorAll(SCROLLING).forEach((each) => sizes.observe(each));

// The buttons of each program stand in a landmark, all of them with one and the same name.
function name() {
  document.querySelectorAll(".md-code__nav").forEach((tools, index) =>
    tools.setAttribute("aria-label", `Program ${index + 1}: tools`));
}

name();
let due = false;
new MutationObserver((changes) => {
  const added = changes.some(({ addedNodes }) => [...addedNodes].some((node) =>
    node.nodeType === Node.ELEMENT_NODE &&
    (node.matches(".md-code__nav") || node.querySelector(".md-code__nav"))));
  if (!added || due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    name();
  });
}).observe(document.body, { childList: true, subtree: true });
