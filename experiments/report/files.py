"""Reports as files: the ending of the name chooses the renderer."""

import os
from pathlib import Path

from discrepancy.errors import InvalidInput
from experiments.config.mistakes import suggestion
from experiments.report.markdown import as_markdown
from experiments.report.page import as_html
from experiments.report.plain import as_csv, as_json
from experiments.report.record import Report
from objectives.storage import StorageError, check_free, write_bytes, write_text

__all__ = ["ENDINGS", "made", "prepare", "save", "save_png"]

ENDINGS = (".md", ".html", ".csv", ".json")


def prepare(path: Path, force: bool = True) -> Path:
    """Make the folder of a file that a report is to be saved in, before the work starts.

    Raises:
        InvalidInput: if no renderer has the ending, or the file exists and is not to be overwritten.
        StorageError: if the folder cannot be made, or cannot be written to.
    """
    if path.suffix not in ENDINGS:
        raise InvalidInput(
            f"'{path}' must end in one of {', '.join(ENDINGS)}: the ending gives the format of the report"
            f"{suggestion(path.suffix, ENDINGS)}"
        )
    check_free([path], force)
    if not os.access(made(path.parent), os.W_OK):
        raise StorageError(f"'{path}' could not be written (its folder is read-only); choose another folder")
    return path


def made(folder: Path) -> Path:
    """The folder, made if it is not there.

    Raises:
        StorageError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"'{folder}' cannot be made ({error.strerror or error}); name another folder") from error
    return folder


def save(report: Report, path: str | Path, table: str | None = None, force: bool = True) -> None:
    """Write a report as Markdown, HTML, CSV or JSON, by the ending of the file. The pictures of a Markdown file ``NAME.md`` are
    written beside it, as ``NAME-PICTURE.png``.

    Args:
        table: the name of the tables that CSV holds; that of the first table by default.
        force: whether to overwrite what exists.

    Raises:
        InvalidInput: if no renderer has the ending, or a file exists and is not to be overwritten.
        StorageError: if it cannot be written.
    """
    path = prepare(Path(path), force)
    match path.suffix:
        case ".md":
            files = {picture.name: f"{path.stem}-{picture.name}.png" for picture in report.pictures}
            check_free((path.with_name(file) for file in files.values()), force)
            for picture in report.pictures:
                save_png(picture.png, path.with_name(files[picture.name]))
            text = as_markdown(report, files)
        case ".html":
            text = as_html(report)
        case ".csv":
            text = as_csv(report, table)
        case _:
            text = as_json(report, indent=1) + "\n"
    write_text(path, text)


def save_png(content: bytes, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    write_bytes(path, content)
