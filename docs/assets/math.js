// Typesets what pymdownx.arithmatex marked. KaTeX keeps MathML beside its picture, for screen readers.
for (const element of document.querySelectorAll(".arithmatex")) {
  const text = element.textContent.trim(); // \(...\) or \[...\]
  try {
    katex.render(text.slice(2, -2), element, {
      displayMode: text.startsWith("\\["),
      output: "htmlAndMathml",
    });
  } catch (error) {
    console.error(`a formula cannot be typeset: ${text}: ${error.message}`);
  }
}
