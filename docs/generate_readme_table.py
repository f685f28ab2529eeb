"""Measures the table of transforms and writes it between README.md's two markers.

python docs/generate_readme_table.py [--check]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN = "<!-- transforms: begin (python docs/generate_readme_table.py) -->"
END = "<!-- transforms: end -->"


def split(text: str) -> tuple[str, str, str]:
    """Returns what stands before the table, the table, and what stands after it.

    Raises:
        ValueError: if the markers are not there exactly once.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md: expected one {BEGIN!r} and one {END!r}")
    before, rest = text.split(BEGIN)
    table, after = rest.split(END)
    return before, table.strip(), after


def measured() -> str:
    """Returns the table as it comes out now."""
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--markdown"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout.strip()


def main() -> int:
    """Rewrites README, or only says whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if it differs"
    )
    options = parser.parse_args()
    text = README.read_text()
    before, table, after = split(text)
    new = measured()
    if options.check:
        print("README.md is current" if table == new else "README.md is not current")
        return int(table != new)
    README.write_text(f"{before}{BEGIN}\n{new}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
