"""A plot as a picture for a page: drawn in the page's colours, named for who cannot see it."""

from __future__ import annotations

import hashlib
import io
import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours that can be told apart on light and on dark paper, by everybody
# ("Color universal design", 2008).
COLOURS = ("#0f7fc0", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")


class Picture(str):
    """An SVG element as text: what `print` puts on a page, and a notebook shows."""

    def _repr_html_(self) -> str:
        return str(self)


def picture(figure: Figure, alt: str) -> Picture:
    """Returns a Matplotlib figure as an inline SVG picture.

    Black becomes the colour of the page's text, and the ground is left clear, so that it reads in
    light and dark. The same figure gives the same text every time.

    Args:
        figure: what to draw; it is closed.
        alt: what it shows, in a sentence, for readers who cannot see it.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from diptych.learn import picture
        >>> figure, axes = plt.subplots()
        >>> _ = axes.plot([1, 2, 4])
        >>> picture(figure, alt="A line that doubles").startswith("<figure")
        True
    """
    import matplotlib.pyplot as plt

    key = hashlib.sha256(alt.encode()).hexdigest()[:10]
    out = io.StringIO()
    for legend in [*figure.legends, *(axes.get_legend() for axes in figure.axes)]:
        if legend is not None:
            legend.set_frame_on(False)  # it would be white, under text in the page's colour
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(
            out, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None}
        )
    plt.close(figure)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"#000000\b|(?<=[: ])black\b", "currentColor", svg)
    # Text without a colour of its own is black; several pictures on a page share its names.
    svg = svg.replace("<svg ", '<svg fill="currentColor" role="img" aria-label="" ', 1)
    svg = svg.replace('aria-label=""', f'aria-label="{escape(alt, quote=True)}"', 1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{key}-", svg)
    # An empty line would end the HTML block that a page's Markdown takes it for.
    svg = "\n".join(line for line in svg.splitlines() if line.strip())
    return Picture(f'<figure class="dt-plot">{svg}</figure>')
