"""The options of the command ``condense``: what may be written on a command line, and the help that is printed of it.

Nothing is imported here but the standard library and what makes strings printable, so that help comes at once.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from discrepancy.errors import printable, suggestion
from experiments.options import (
    by_commas,
    changes_option,
    common_options,
    force_option,
    fraction,
    imports_option,
    json_option,
    report_option,
    root_option,
    where_options,
)

__all__ = ["command_parser"]

EPILOG = """examples:
  condense run dm --data digits                          a published method on packaged data
  condense run dm --data fashion-mnist --per-class 10    downloads once, through torchvision
  condense run my.yaml --set solver.lr=0.5 --dry-run     time, memory and bytes before anything starts
  condense run --out runs/dm-digits-10 --resume          continue an interrupted run
  condense evaluate runs/dm-digits-10                    accuracy beside its controls
  condense compare digits runs/dm-digits-10 digits:test  how far from the real data, in real examples
  condense compare digits runs/dm-digits-10 --report far.html
"""

COMPARED = """A data set is an artefact (FILE.safetensors), a run folder, a name, an .npz file or a folder of images;
NAME:test is its test part. The first one is the real side. Discrepancies are named by kind (condense kinds
discrepancy); 'mmd' has the gaussian kernel at the median distance here, and 'mean' the linear one.

examples:
  condense compare digits runs/dm-digits-10 --by class
  condense compare mnist mnist:test runs/dm-mnist-10 --via features --networks 3 --report compared.html
"""

SWEPT = """A sweep file lists methods, data, sizes and a protocol; all that it may hold is in the docstring of
experiments/sweeps/sweep.py (python -m pydoc experiments.sweeps.sweep).

examples:
  condense sweep matching --dry-run                      the packaged sweep: what it will do, and how long
  condense sweep matching --out runs/matching            every method on MNIST and CIFAR-10 at 10 a class
  condense sweep --out runs/matching --resume            continue after Ctrl-C, a kill or a crash
  condense sweep matching --out runs/matching --resume --all --only cifar10/10
"""


class _Parser(argparse.ArgumentParser):
    """A parser, as its subparsers are, that takes options by their whole names: ``--step`` is not ``--steps``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  (its overloads)
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuses unknown arguments here, so that the message has the usage of the command, and the most similar option."""
        first = (sys.argv[1:] if args is None else [*args])[:1]
        if self._has_commands and first and first[0].startswith("-") and first[0] not in ("-h", "--help"):
            self.error(f"options stand behind the command: {self.prog} COMMAND ... {first[0]}")
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = self._option_string_actions
            self.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion(unknown[0].partition('=')[0], known)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"'{value}' is not one of {', '.join(known)}{suggestion(value, known)}"
            )

    @property
    def _has_commands(self) -> bool:
        return self._subparsers is not None

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message, lines=True), file)


def command_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="condense",
        description="Make data sets small: condense a labelled data set by minimising a discrepancy.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, what: str, epilog: str | None = None) -> argparse.ArgumentParser:
        form = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(name, help=what, epilog=epilog, formatter_class=form)

    _run(command("run", "condense a data set"))
    _label(command("label", "give a condensed set the soft labels of a network trained on the real data"))
    _evaluate(command("evaluate", "train networks from scratch on a condensed set, beside its controls"))
    _compare(
        command("compare", "how far data sets are from a real one, by any discrepancies, with intervals", COMPARED)
    )
    _sweep(command("sweep", "many methods on the same data, sizes and protocol: a table, from one file", SWEPT))
    studies = command("study", "experiments about discrepancies themselves").add_subparsers(
        dest="study", required=True, metavar="STUDY"
    )
    _predict(studies.add_parser("predict", help="which discrepancy predicts the accuracy of networks?"))
    _exact(studies.add_parser("exact", help="exact ridge regression on several features, and KIP beside it"))
    show = command("show", "print a method as YAML that 'run' accepts, or describe an artefact")
    show.add_argument("what", metavar="METHOD|ARTEFACT", help="a method, an artefact, or a run folder")
    report_option(show)
    json_option(show)
    export = command("export", "write a condensed set as an image folder, or as .npz")
    export.add_argument("artefact", metavar="ARTEFACT", help="FILE.safetensors, or a run folder")
    export.add_argument(
        "to",
        metavar="FOLDER|FILE.npz",
        type=Path,
        help="a new or empty folder for PNG images, or FILE.npz for exact numbers",
    )
    force_option(export)
    json_option(command("methods", "list the published methods"))
    kinds = command("kinds", "list every part that a configuration can name")
    kinds.add_argument("family", metavar="FAMILY", nargs="?", help="only this family, e.g. discrepancy or solver")
    imports_option(kinds)
    json_option(kinds)
    return parser


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="METHOD|FILE", nargs="?", help="a method by name, or a YAML or TOML file")
    parser.add_argument("--data", help="a data set by name, an .npz file, a folder of images, or YAML")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="hold a tenth of the training data out, on which 'evaluate' then tests: for choosing settings without test data",
    )
    parser.add_argument("--per-class", type=int, metavar="N", help="synthetic examples a class")
    parser.add_argument("--examples", type=int, metavar="N", help="total number of synthetic examples")
    parser.add_argument(
        "--features", metavar="NAME", help="features that the method has by name: fcnn, cnn, ... for ridge"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the solver")
    where_options(parser)
    changes_option(parser, "change any value, e.g. solver.lr=0.5")
    parser.add_argument(
        "--teacher", help="a network that learns the real data and labels the result: convnet, YAML, or a file"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="the run folder (default runs/METHOD-DATA-N, or runs/METHOD-DATA-N-seedSEED)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument(
        "--checkpoint-every", type=int, default=100, metavar="STEPS", help="steps between two checkpoints (default 100)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print time, memory and stored bytes, and stop")
    common_options(parser)


def _label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artefact", metavar="ARTEFACT", help="FILE.safetensors, or a run folder")
    parser.add_argument(
        "--teacher",
        default="convnet",
        help="a network (convnet, the default), YAML such as '{network: mlp, temperature: 4}', a YAML file, or the weights of "
        "a teacher (FILE.teacher.safetensors)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", required=True, help="the artefact that is written")
    force_option(parser)
    parser.add_argument("--data", help="other data than those that were condensed, for the teacher to learn")
    changes_option(parser, "change a value of the teacher, e.g. rounds=5")
    where_options(parser, seed=0, device="auto")
    common_options(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artefact", metavar="ARTEFACT", help="FILE.safetensors, or a run folder")
    parser.add_argument(
        "--protocol",
        default="quick",
        help="quick, vico, ncfm, table (an MLP), or a YAML file: networks are trained; or learner (also: ridge): the learner "
        "of the objective is fitted to the set in closed form",
    )
    changes_option(parser, "change a value of the protocol")
    parser.add_argument("--networks", type=int, metavar="N", help="number of networks")
    parser.add_argument("--data", help="evaluate on other data than those that were condensed")
    parser.add_argument(
        "--controls",
        type=by_commas(str),
        default=["random", "herding"],
        help="any of random, herding, whole, by commas, and matched: as many random examples as have the accuracy of the "
        "set; or none (default random,herding)",
    )
    parser.add_argument(
        "--labels",
        choices=("own", "hard"),
        default="own",
        help="the labels of the set, and those of the same teacher for its controls (own); or classes for all (hard)",
    )
    parser.add_argument(
        "--validation", action="store_true", help="evaluate on a part of the training data in place of the test data"
    )
    robust = parser.add_argument_group("accuracy under attack")
    robust.add_argument("--robust", action="store_true", help="attack the networks too, and show them corrupted images")
    robust.add_argument(
        "--eps",
        type=by_commas(fraction),
        metavar="E,...",
        help="radii in the norm linf for values in 0 .. 1, such as 2/255,8/255 (default: those usual for the data)",
    )
    robust.add_argument(
        "--attacks",
        type=by_commas(str),
        metavar="NAMES",
        help="any of fgsm, pgd, apgd, autoattack (slow; needs the extra 'robust'), by commas (default fgsm,pgd,apgd)",
    )
    robust.add_argument(
        "--attacked", type=int, metavar="N", help="number of test examples that are attacked (default 200)"
    )
    robust.add_argument(
        "--training",
        type=by_commas(str),
        metavar="WAYS",
        help="how networks are trained: natural, adversarial, by commas (default both)",
    )
    where_options(parser, seed=0, device="auto")
    report_option(parser)
    common_options(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="REAL SET",
        nargs="*",
        help="the real data set, then those that are compared; or a YAML or TOML file",
    )
    parser.add_argument("--config", metavar="FILE", help="a YAML or TOML file with any of the settings")
    parser.add_argument(
        "--discrepancies", metavar="NAMES", help="kinds by commas, or YAML: '{mmd: {kernel: {kind: linear}}}'"
    )
    parser.add_argument(
        "--via", metavar="EMBEDDING", help="the embedding: identity, features, ..., as YAML, or a YAML file"
    )
    parser.add_argument("--network", metavar="NETWORK", help="the network of the embedding: convnet, mlp, or as YAML")
    parser.add_argument(
        "--networks", type=int, metavar="N", help="number of random networks over which values are averaged"
    )
    parser.add_argument(
        "--units", help="compare normalised values (normalised, the default), or values in 0 .. 1 (range)"
    )
    parser.add_argument(
        "--worst",
        type=fraction,
        metavar="EPS",
        help="also the largest value over real examples within EPS (linf, for values in 0 .. 1), such as 8/255; "
        "--set worst.norm=l2, worst.steps=50, worst.restarts=3",
    )
    parser.add_argument(
        "--by", help="compare class by class (class), all examples at once (none), or both (the default)"
    )
    parser.add_argument(
        "--resamples",
        type=int,
        metavar="N",
        help="random halves of the real side, from which intervals are computed (default 50)",
    )
    parser.add_argument(
        "--independent",
        action=argparse.BooleanOptionalAction,
        help="treat named data as samples that are (not) independent of the real side; only independent samples get p-values "
        "(default: decided from shared examples)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write the report in every form, as comparison.json, .csv, .html and .png",
    )
    report_option(parser)
    changes_option(parser, "change any value")
    where_options(parser)
    common_options(parser)


def _sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="a sweep file, or a packaged one: matching, best_ablation"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where everything is kept and continued (default runs/sweep-NAME)"
    )
    parser.add_argument("--resume", action="store_true", help="run the cells that are missing in the folder")
    parser.add_argument("--all", dest="optional", action="store_true", help="run the optional portions too")
    parser.add_argument(
        "--portions", type=by_commas(str), metavar="NAMES", help="these portions only, by commas; 'cross' is one"
    )
    parser.add_argument(
        "--only",
        type=by_commas(str),
        metavar="NAMES",
        help="these methods, data or sizes, by commas, or patterns such as 'mnist/10/d*'",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check every cell, print how long each will take, and stop"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write the tables of the cells that are done, and stop"
    )
    changes_option(parser, "change any value of the file")
    where_options(parser)
    common_options(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a YAML or TOML file (default: the packaged study)")
    parser.add_argument("--data", help="a data set by name, an .npz file, a folder of images, or YAML")
    parser.add_argument("--per-class", type=by_commas(int), metavar="N,...", help="sizes of the sets, by commas")
    parser.add_argument(
        "--target",
        help="what is predicted: accuracy (the default), or robust, the accuracy under an attack; --set target.eps=0.05, "
        "target.attack=pgd, target.examples=500",
    )
    where_options(parser)
    changes_option(parser, "change any value, e.g. protocol.networks=5")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results are kept and continued (default runs/predict-DATA)"
    )
    parser.add_argument("--rows", type=int, default=20, metavar="N", help="rows that are printed; 0 for all")
    parser.add_argument("--show", action="store_true", help="print the configuration as YAML, and stop")
    common_options(parser)


def _exact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=by_commas(str),
        default=["mnist", "cifar10"],
        metavar="NAMES",
        help="data sets by name, by commas (default mnist,cifar10)",
    )
    parser.add_argument(
        "--features",
        type=by_commas(str),
        default=["linear", "fcnn", "rff"],
        metavar="NAMES",
        help="features of the method ridge, by commas (default linear,fcnn,rff)",
    )
    parser.add_argument(
        "--per-class",
        type=by_commas(int),
        default=[1, 10, 50],
        metavar="N,...",
        help="sizes of the sets, by commas (default 1,10,50)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="number of random draws of the networks and frequencies (default 1)",
    )
    parser.add_argument(
        "--precision",
        default="double",
        choices=("double", "mixed"),
        help="precision of the pass over the real data (default double)",
    )
    parser.add_argument(
        "--kip",
        type=float,
        metavar="MINUTES",
        help="run KIP too, on the features of fcnn: at most so many minutes for each size",
    )
    parser.add_argument(
        "--noise",
        type=by_commas(float),
        metavar="STD,...",
        help="condense again with noise of these standard deviations, and measure how well W is recovered",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    root_option(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results are kept and continued (default runs/exact)"
    )
    common_options(parser)
