"""Use of streams by the models in the store: which streams a fit learned from, and which chose its model, by the fit's record."""

from collections.abc import Collection
from pathlib import Path

from affpipe.store.streams import FIT, MODEL, unreadable
from affpipe.system import jsonfile
from affpipe.system.files import composed


def fits(folder: Path) -> list[Path]:
    """List the folders of a model's fits: its own folder (the fit on all streams), then its folds. Links are left out."""
    return [place for place in (folder, *sorted(folder.glob("fold*"))) if place.is_dir() and not place.is_symlink()]


def had(fit: Path, ids: Collection[str], *, unknown: bool) -> str:
    """Describe what a fit learned of some streams, for people to read; "" if nothing, or if there is no fit.

    A record that does not say what the fit used counts as a yes.

    Args:
        unknown: whether a model without a record counts too.
    """
    try:
        found = jsonfile.read(fit / FIT)
        own = {part: {composed(id) for id in found[part]} & {composed(id) for id in ids} for part in ("train", "validation")}
    except FileNotFoundError:
        return "of a model without the record of its fit" if unknown and (fit / MODEL).exists() else ""
    except OSError as error:
        raise unreadable(fit / FIT, error) from None
    except (ValueError, KeyError, TypeError):
        return "of a model whose record does not say what it was fitted on"
    if own["train"]:
        return f"of a model that learned from {', '.join(sorted(own['train']))}"
    return f"of a model that was chosen by {', '.join(sorted(own['validation']))}" if own["validation"] else ""
