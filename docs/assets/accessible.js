// What the keyboard and screen readers need, and the theme leaves out.

// Wide formulas and pictures scroll by themselves: the keyboard must reach those that do.
const wide = ".arithmatex, .dt-plot, .md-typeset__scrollwrap";
function reach() {
  for (const element of document.querySelectorAll(wide)) {
    if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
    else element.removeAttribute("tabindex");
  }
}
addEventListener("load", reach);
addEventListener("resize", reach);
document.addEventListener("change", reach, true); // another tab is shown
document.addEventListener("toggle", reach, true); // a solution is opened

// The copy button of each program sits in a landmark, all without a name.
function unmark() {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) {
    nav.setAttribute("role", "presentation");
  }
}
new MutationObserver(unmark).observe(document.body, { childList: true, subtree: true });
unmark();
