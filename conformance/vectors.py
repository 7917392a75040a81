"""The vectors in the repository that this runner belongs to."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def load(path: str) -> dict[str, Any]:
    """Read one file of vectors."""
    vectors: dict[str, Any] = json.loads((ROOT / path).read_text())
    return vectors
