"""The basis of a run's figures as cells and sentences beside them; `affpipe.results.basis` determines it.

A table is system -> figures with their `basis`; a system that predicted no labelled stream has the basis alone. Facts that hold for every
figure are not mentioned.
"""

from collections.abc import Mapping
from typing import Any

FRAMES = ("asked", "nearest", "without_lead", "none")  # how the prediction of a labelled frame came about
COLUMNS = ("streams", "streams_labelled", "frames_labelled", *FRAMES, "epoch_chosen_on", "seed")
REPORTED, HELD_OUT, OTHER_HALF = "reported streams", "held-out folds", "other half"
PLACES = {  # where something was chosen, and words for it
    REPORTED: "Chosen on these very streams, so that figures are optimistic",
    HELD_OUT: "Chosen on held-out folds of the training streams",
}
CHOICES = {
    "epoch_chosen_on": "the epoch of each fit",
    "thresholds_chosen_on": "the thresholds of units",
    "fold_chosen_on": "which fold's fit predicts a target",
}
WAYS = {"nearest": "filled from the nearest", "without_lead": "without the lead modality", "none": "without a prediction"}
NAMED = 3  # streams that are named if many drop out
LENGTH = 160  # characters of a reason
UNKNOWN = "What these figures rest on is not recorded: an older version published them; run the workflow again."

Systems = Mapping[str, Mapping[str, Any]]
Bases = Mapping[str, Mapping[str, Any]]  # system -> basis


# ---- cells ------------------------------------------------------------------------------------------------------------------------------


def cells(basis: Mapping[str, Any] | None) -> list[str]:
    """Return a basis under COLUMNS, shares in full; empty cells if nothing is known of a system."""
    found = [None if basis is None else basis[name] for name in COLUMNS]
    return ["" if x is None else repr(x) if isinstance(x, float) else str(x) for x in found]


def coverage(basis: Mapping[str, Any]) -> tuple[str, str]:
    """Return streams scored of those labelled, and the share of labelled frames asked."""
    return f"{basis['streams']} of {basis['streams_labelled']}", share(basis["asked"])


def share(value: float | None) -> str:
    """Format a share as per cent; only none is "0 %" and only all is "100 %"; "-" if there is nothing to share."""
    if value is None:
        return "-"
    if 0 < value < 0.001 or 0.999 < value < 1:
        return "< 0.1 %" if value < 0.5 else "> 99.9 %"
    return f"{100 * value:.{0 if value in (0, 1) else 1}f} %"


# ---- sentences --------------------------------------------------------------------------------------------------------------------------


def sentences(systems: Systems) -> list[str]:
    """Return all sentences for a table that ends with the baselines of its first system."""
    every = {system: figures["basis"] for system, figures in systems.items() if "basis" in figures}
    scored = {system: basis for system, basis in every.items() if "frames" in systems[system]}
    mute = {system: basis for system, basis in every.items() if system not in scored}
    out = [*_chosen(scored), *_asked(scored), *_compared(scored), *_baselines(scored), *_dropped(scored), *_mute(mute), *_seeds(scored)]
    return out if len(every) == len(systems) else [*out, UNKNOWN]


def brief(bases: Bases) -> list[str]:
    """Return the sentences for a further table of scored systems, without baselines: those on how its figures compare."""
    return [*_chosen(bases), *_compared(bases), *_seeds(bases)]


def line(system: str, title: str, measure: str, figures: Mapping[str, Any], partition: str = "validation") -> str:
    """Describe one system in a line: its figure and its basis, the streams of a partition."""
    basis, what = figures["basis"], {"validation": "validation streams", "train": "training streams"}[partition]
    if measure not in figures:
        return f"{system}, {title}: no figure, as no labelled frame of the {basis['streams_labelled']} {what} is predicted"
    streams, asked = coverage(basis)
    return (
        f"{system}, {title}: {measure} {figures[measure]:.3f} on {streams} labelled {what}, {asked} of their labelled frames "
        f"asked; epochs chosen on {basis['epoch_chosen_on']}; one seed, {basis['seed']}"
    )


def _chosen(bases: Bases) -> list[str]:
    """Tell what was chosen where; systems are named if they differ."""
    out = []
    for place, words in PLACES.items():
        what = []
        for key, name in CHOICES.items():
            own = {s: "" if basis[key] == place else " in part" for s, basis in bases.items() if place in basis.get(key, "")}
            if own:
                alike = len(own) == len(bases) and len(set(own.values())) == 1
                what.append(name + (next(iter(own.values())) if alike else f" ({', '.join(s + part for s, part in own.items())})"))
        if what:
            out.append(f"{words}: {', '.join(what)}.")
    weighed = [system for system, basis in bases.items() if "weights_chosen_on" in basis]
    return out + [f"The weights of {system} were fitted on the other half of these streams." for system in weighed]


def _asked(bases: Bases) -> list[str]:
    """Tell which labelled frames were not predicted from a row of their own, and what they have instead."""
    ways = {s: ", ".join(f"{share(basis[kind])} {words}" for kind, words in WAYS.items() if basis[kind]) for s, basis in bases.items()}
    lacking = _alike({system: text for system, text in ways.items() if text})
    return [f"Labelled frames that were not asked: {'; '.join(f'{names} ({text})' for names, text in lacking)}."] if lacking else []


def _dropped(bases: Bases) -> list[str]:
    """Tell which labelled streams are not scored, and why."""
    lacking = _alike({s: (len(b["dropped"]), b["streams_labelled"], _streams(b["dropped"])) for s, b in bases.items() if b["dropped"]})
    return [f"{names}: no score on {count} of {labelled} labelled streams: {text}." for names, (count, labelled, text) in lacking]


def _mute(bases: Bases) -> list[str]:
    """Tell which systems have no figure, and why."""
    lacking = _alike({s: (b["streams_labelled"], _streams(b["dropped"])) for s, b in bases.items()})
    return [f"{names}: no figure, as no labelled frame of {n} streams is predicted{text and ': '}{text}." for names, (n, text) in lacking]


def _compared(bases: Bases) -> list[str]:
    """Tell whether the scores of all systems are on the same streams, and on how many they could be compared."""
    if not bases:
        return []
    labelled = max(basis["streams_labelled"] for basis in bases.values())  # all have the same number
    common = labelled - len({id for basis in bases.values() for id in basis["dropped"]})
    if _together(bases):
        return [f"All scores are on the same streams, {common} of {labelled} labelled."]
    words = f"of {labelled} labelled, {common} are common to all systems, and only on these could all be compared"
    return [f"Scores are not all on the same streams: {words}."]


def _baselines(bases: Bases) -> list[str]:
    return [] if _together(bases) else [f"Baselines are on the streams of {next(iter(bases))}."]


def _together(bases: Bases) -> bool:
    return len({frozenset(basis["dropped"]) for basis in bases.values()}) < 2


def _seeds(bases: Bases) -> list[str]:
    """Tell that one seed is behind each fit."""
    seeds = _alike({system: basis["seed"] for system, basis in bases.items()})
    which = str(seeds[0][1]) if len(seeds) == 1 else "; ".join(f"{seed} for {systems}" for systems, seed in seeds)
    return [f"Every fit used one seed, {which}: another would move each figure, perhaps by more than systems differ."] if seeds else []


def _alike(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Group systems with the same value."""
    return [(", ".join(s for s, own in told.items() if own == what), what) for what in dict.fromkeys(told.values())]


def _streams(reasons: Mapping[str, str]) -> str:
    """Name the first streams with their reasons, one reason for all that share it, and count the others."""
    short = {id: _short(id, reason) for id, reason in sorted(reasons.items())}
    first = {id: short[id] for id in list(short)[:NAMED]}
    more = f" and {len(short) - NAMED} more" if len(short) > NAMED else ""
    if len(set(short.values())) == 1:
        return f"{', '.join(first)}{more} ({next(iter(first.values()))})"
    return "; ".join(f"{names} ({reason})" for names, reason in _alike(first)) + more


def _short(id: str, reason: str) -> str:
    """Return a reason without the name of its stream in front."""
    text = reason.removeprefix(f"{id}: ")
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"
