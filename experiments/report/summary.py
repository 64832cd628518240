"""The short reports: what a run made, what it will cost, and what an artefact is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.plan import KeptFiles, Plan, PlannedRelease
from experiments.report.record import (
    BYTES,
    SECONDS,
    TEXT,
    Fact,
    Facts,
    Form,
    Listing,
    Notes,
    Part,
    Picture,
    Report,
    Section,
)
from experiments.report.values import duration, size
from objectives.privacy.gaussian import best_true_positive_rate

__all__ = [
    "artefact_report",
    "facts_of",
    "facts_report",
    "listing_report",
    "plan_report",
    "privacy_in_words",
    "text_report",
]

RATES = (0.001, 0.01, 0.1)
"""False positives of attacks whose best true positives are told."""


def facts_of(values: Mapping[str, Any]) -> Facts:
    """Names and values. The names of numbers say what they are: those that end in ``_bytes``, and ``seconds``."""
    return Facts(
        tuple(Fact(name.replace("_", " "), _plain(value), _form(name, value)) for name, value in values.items())
    )


def _form(name: str, value: Any) -> Form:
    if not isinstance(value, int | float):
        return TEXT
    return BYTES if name.endswith("_bytes") else SECONDS if name == "seconds" else TEXT


def _plain(value: Any) -> str | int | float | None:
    return value if isinstance(value, str | int | float) or value is None else str(value)


def facts_report(title: str, values: Mapping[str, Any]) -> Report:
    """Names and values, which are its data too."""
    return Report(title=title, sections=(Section(parts=(facts_of(values),)),), data=dict(values))


def plan_report(title: str, found: Plan) -> Report:
    """What a run will cost."""
    fits = found.memory_bytes <= found.available_bytes
    lower = "" if fits else "; use a narrower network, fewer examples a class, a smaller batch, or smaller images"
    facts = (
        ("device", found.device),
        ("steps", found.steps),
        ("synthetic examples", f"{found.examples:,} of shape {' x '.join(map(str, found.shape))}"),
        ("time", f"about {duration(found.seconds)}{', compiled' if found.compiled else ''}"),
        ("forward passes", f"{found.forward_passes:,} images, {found.multiplications:.2g} multiplications"),
        ("memory", f"about {size(found.memory_bytes)} of {size(found.available_bytes)} available{lower}"),
        ("stored", size(found.stored_bytes)),
        *((f"{kept.name} examples", _kept(kept)) for kept in found.kept),
        *(() if found.release is None else _release(found.release)),
    )
    listed = Facts(tuple(Fact(name, value) for name, value in facts))
    return Report(title=title, sections=(Section(parts=(listed,)),), data=asdict(found))


def _release(found: PlannedRelease) -> Iterator[tuple[str, str]]:
    """What a private run would release, and what was released before."""
    made, stated = found.announced, found.privacy
    yield "release", made.what
    budget = f"budget of the data: ε = {stated.epsilon:g}"
    yield "privacy", f"this release: ε = {made.epsilon:.4g} (δ = {stated.delta:g}, {stated.adjacency}); {budget}"
    yield "noise", f"standard deviation {made.noise:.4g} on sums of vectors of length {made.length:.4g} at most"
    yield "ledger", f"{stated.ledger}: ε = {made.spent:.4g} spent before"


def privacy_in_words(about: Mapping[str, Any]) -> str:
    """What a set gives away of its data, from its record: the budget, and what the best attack on one example can find."""
    if not about["private"]:
        return "none: the noise was not that of the operating system"
    found = [f"{100 * best_true_positive_rate(about['mu'], rate):.3g} % at {100 * rate:g} %" for rate in RATES]
    return (
        f"ε = {about['epsilon']:.4g}, δ = {about['delta']:g}, {about['adjacency']}; an attack finds at most {', '.join(found)} "
        "false positives"
    )


def _kept(found: KeptFiles) -> str:
    """``1,437, in FOLDER: 92 kB, none of it there yet``."""
    there = {0: "none of it there yet", found.all_bytes: "there already"}
    state = there.get(found.there_bytes, f"{size(found.there_bytes)} of it there already")
    return f"{found.examples:,}, kept for later runs in {found.folder}: {size(found.all_bytes)}, {state}"


def artefact_report(
    title: str, facts: Mapping[str, Any], data: Mapping[str, Any], config: str = "", pictures: Sequence[Picture] = ()
) -> Report:
    """What an artefact is, with its pictures and its configuration as YAML, where it has some."""
    parts: tuple[Part, ...] = (facts_of(facts), *pictures)
    if config:
        parts = (*parts, Listing(config, "yaml"))
    return Report(title=title, sections=(Section(parts=parts),), data=dict(data))


def listing_report(title: str, text: str, data: Any, language: str = "yaml") -> Report:
    """Text that is shown as it is."""
    return Report(title=title, sections=(Section(parts=(Listing(text, language),)),), data=data)


def text_report(title: str, line: str) -> Report:
    """A sentence."""
    return Report(title=title, sections=(Section(parts=(Notes((line,)),)),), data={"done": line})
