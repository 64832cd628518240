"""The generated pages of docs/: the methods at a glance, and the reference of every public name.

``python -m experiments.docs`` writes them, in a checkout. Each is a function of the source files alone.
"""

from pathlib import Path

from experiments.docs.api import api_pages
from experiments.docs.methods import methods_page

__all__ = ["ROOT", "pages"]

ROOT = Path(__file__).parents[2]


def pages(root: Path = ROOT) -> dict[Path, str]:
    """The text of every generated page, by its path in a checkout."""
    found = {Path("methods.md"): methods_page(root), **api_pages(root)}
    return {root / "docs" / path: text for path, text in found.items()}
