"""The studies on the command line: what ``condense study`` calls."""

import argparse
import json
from functools import partial
from pathlib import Path

from experiments.config import Tree, build, dump, merge, override, read, write_yaml
from experiments.data import source_named
from experiments.report import prediction as report
from experiments.report.progress import shown
from experiments.studies.folder import StudyFolder
from experiments.studies.prediction import Prediction, packaged
from experiments.studies.running import predict

__all__ = ["run_predict"]


def run_predict(options: argparse.Namespace) -> None:
    """Run the study, or what is missing of it in its folder; write the report and print it."""
    tree = _tree(options)
    if options.show:
        print(write_yaml(tree), end="")
        return
    study = build(Prediction, tree)
    folder = StudyFolder(options.out or Path("runs") / f"predict-{study.data_name.lower()}")
    options.out = folder.path
    findings = predict(study, folder, partial(shown, quiet=options.quiet))
    folder.write_text(folder.report, json.dumps(findings.as_dict(), indent=1))
    report.save_csv(findings, folder.table)
    report.save_pictures(findings, folder.dots, folder.scatter)
    if options.json:
        print(json.dumps(findings.as_dict()))
        return
    print(report.text(findings, options.rows))
    written = (folder.report, folder.table, folder.dots, folder.scatter)
    print(f"\nwritten to {folder.path}: {', '.join(path.name for path in written)}")


def _tree(options: argparse.Namespace) -> Tree:
    """The file, then the options, then every --set, in this order."""
    changes: Tree = {}
    if options.data is not None:
        changes["data"] = dump(source_named(options.data, options.root), defaults=False)
    elif options.root is not None:
        changes["data"] = {"root": options.root}
    for name in ("per_class", "seed", "device"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    return override(merge(read(options.file or packaged()), changes), options.set)
