"""``make docs``: write the generated pages of docs/, or draw the picture of the README.

python -m experiments.docs
python -m experiments.docs picture FILE.png 'HEADING=ARTEFACT' ['HEADING=ARTEFACT' ...]
"""

import argparse
from pathlib import Path

from experiments.docs import ROOT, pages
from experiments.docs.picture import side_by_side
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["main"]


def main() -> None:
    """Write what was asked for, and print what changed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.docs", description="Write the generated pages of docs/."
    )
    commands = parser.add_subparsers(dest="command", metavar="picture")
    picture = commands.add_parser("picture", help="draw artefacts side by side, one row of images a class")
    picture.add_argument("to", type=Path, metavar="FILE.png")
    picture.add_argument("sets", nargs="+", type=_headed, metavar="HEADING=ARTEFACT")
    options = parser.parse_args()
    if options.command == "picture":
        side_by_side({heading: SyntheticSet.load(path) for heading, path in options.sets}, options.to)
        print(options.to)
        return
    if not (ROOT / "tests").is_dir():
        parser.error("the pages are made from the sources and the tests; run this in a checkout of the repository")
    _write(pages())


def _headed(text: str) -> tuple[str, Path]:
    heading, separator, path = text.rpartition("=")
    if not (heading and separator):
        raise argparse.ArgumentTypeError(f"expected HEADING=ARTEFACT, got '{text}'")
    return heading, Path(path)


def _write(made: dict[Path, str]) -> None:
    for path in sorted(set((ROOT / "docs" / "api").glob("*.md")) - made.keys()):
        path.unlink()
        print(f"{path.relative_to(ROOT)} removed")
    for path, text in made.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
