"""Real data: packaged, downloaded, or the user's own."""

from discrepancy.errors import InvalidInput, nearest
from discrepancy.parts import user_path
from experiments.config import build
from experiments.config.files import parse_value
from experiments.data.arrays import Npz
from experiments.data.base import Source
from experiments.data.clustered import Clustered
from experiments.data.diabetes import Diabetes
from experiments.data.digits import Digits
from experiments.data.held_out import HeldOut
from experiments.data.images import Images
from experiments.data.mislabelled import Mislabelled
from experiments.data.torchvision_sets import SETS, Torchvision, squeezed

__all__ = [
    "Clustered",
    "Diabetes",
    "Digits",
    "HeldOut",
    "Images",
    "Mislabelled",
    "Npz",
    "Source",
    "Torchvision",
    "is_described",
    "source_named",
]


def source_named(text: str, root: str | None = None) -> Source:
    """The source that one word names: ``digits``, ``fashion-mnist``, ``file.npz`` or a folder of images; or that is described
    in YAML, as in a configuration: ``{kind: images, path: imgs, size: 16}``.

    The names of data sets come first, in any case and with or without dashes; write ``./digits`` for a folder of that name.

    Args:
        text: what the user wrote.
        root: where torchvision's data lie, for the sets that it knows.

    Raises:
        InvalidInput: if it is neither a known name nor a file or folder that can be read.
        ConfigError: if it is YAML, and describes no source.
    """
    if is_described(text):
        return _described(text, root)
    known = {squeezed(name): name for name in SETS}
    packaged = {source.kind: source for source in (Digits, Diabetes)}
    if "/" not in text and squeezed(text) in packaged:
        return packaged[squeezed(text)]()
    if "/" not in text and squeezed(text) in known:
        return Torchvision(name=known[squeezed(text)], root=root)
    path = user_path("data", text)
    if path.suffix.lower() == ".npz":
        return Npz(path=text)
    if path.is_dir():
        return Images(path=text)
    if path.exists():
        raise InvalidInput(f"{text} is neither an .npz file nor a folder of images; convert it to one of these")
    close = nearest(squeezed(text), [*packaged, *known])
    hint = f"did you mean {known.get(close, close)}?" if close else "correct the name or the path"
    raise InvalidInput(
        f"no data called '{text}': it is not a file or folder, and not one of {', '.join([*packaged, *SETS])}; {hint}"
    )


def is_described(text: str) -> bool:
    """Whether it is YAML, and no name."""
    return text.lstrip().startswith("{")


def _described(text: str, root: str | None) -> Source:
    try:
        tree = parse_value(text)
    except ValueError as error:
        raise InvalidInput(f"'{text}' cannot be read as YAML: {error}") from None
    source = build(Source, tree, "data")
    return source if root is None else source.at(root)
