"""The minimal clients of docs/WIRE.md, taken out of it, so that what is printed there is what is tested."""

from __future__ import annotations

import re
from pathlib import Path

from conformance.vectors import ROOT

MOST_LINES = 60
FILES = {"python": "relay.py", "javascript": "relay.mjs"}


def write(folder: Path) -> dict[str, Path]:
    """Write the examples into a folder and return their paths by language."""
    text = (ROOT / "docs/WIRE.md").read_text()
    paths = {}
    for language, name in FILES.items():
        (code,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        lines = code.count("\n")
        if lines > MOST_LINES:
            raise SystemExit(f"docs/WIRE.md: the client in {language} has {lines} lines, at most {MOST_LINES}")
        paths[language] = folder / name
        paths[language].write_text(code)
    return paths
