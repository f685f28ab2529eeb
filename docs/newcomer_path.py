"""Counts what a newcomer reads and types on the way to a proven rule of their own.

Run it with `python docs/newcomer_path.py`; the start page and a test do.
"""

import re
from pathlib import Path

from diptych.learn.pages import Site, summary

DOCS = Path(__file__).resolve().parent
PAGES = ("index.md", "first_rule.md")
WORDS_A_MINUTE = 200
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def shown(text):
    """Returns what is read of a page: its prose, and the programs that it shows."""
    return FENCE.sub(lambda fence: fence[3] if is_shown(fence[2]) else "", text)


def is_shown(info):
    """Returns whether a fence's code is on the page: what runs unseen is not read."""
    return "exec=" not in info or "source=" in info


def words(page):
    """Returns how many words a page has, its code included."""
    text = shown((DOCS / page).read_text())
    if page == "index.md":  # its table of the tutorial's pages
        site = Site.read(DOCS.parent / "mkdocs.yml")
        text += " ".join(f"{page} {summary(site.text(page))}" for page in site.tutorial)
    return len(re.findall(r"[^\W_]+(?:['_.][^\W_]+)*", text))


def commands():
    """Returns the commands that are to be typed, in order."""
    fences = [f for page in PAGES for f in FENCE.findall((DOCS / page).read_text())]
    return [
        line.strip()
        for _, info, code in fences
        if info == "shell"
        for line in code.splitlines()
    ]


def report():
    """Returns the count as text."""
    counts = {page: words(page) for page in PAGES}
    total = sum(counts.values())
    lines = [f"{page:15} {count:5} words" for page, count in counts.items()]
    time = f"{total / WORDS_A_MINUTE:.1f} minutes at {WORDS_A_MINUTE} a minute"
    lines += [f"{'all':15} {total:5} words, {time}"]
    return "\n".join(
        [*lines, f"{len(commands())} commands:", *(f"  {c}" for c in commands())]
    )


def minutes():
    """Returns the minutes that reading takes."""
    return sum(words(page) for page in PAGES) / WORDS_A_MINUTE


if __name__ == "__main__":
    print(report())
