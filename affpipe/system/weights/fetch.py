"""Download of published weights by name: one pinned commit, only the needed files, resumed where it stopped, checksums recorded."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from affpipe.core.errors import WeightsError
from affpipe.system.weights import records
from affpipe.system.weights.catalog import CATALOG
from affpipe.system.weights.reading import first_line

# The base class of huggingface_hub's HTTP errors comes from the HTTP library that the installed version is built on.
_NETWORK = (HfHubHTTPError.__bases__[0], OSError)


def fetch(name: str, out: Path, *, revision: str | None = None) -> records.WeightsRecord:
    """Download the weights `name` of the catalogue to the folder `out` / `name` and return their record.

    Weights that are there, recorded and whole are not downloaded again.

    Args:
        revision: commit to take instead of the catalogue's. If neither names one, the newest, which the record then pins.

    Raises:
        WeightsError: unknown name; no connection; or the folder holds something other than its record or `revision` says.
    """
    if name not in CATALOG:
        raise WeightsError(f"weights: unknown name {name!r}; known are {', '.join(sorted(CATALOG))}")
    entry, folder = CATALOG[name], out / name
    revision = revision or entry.revision
    if records.record_path(folder).exists():
        known = records.verify(folder)
        if revision not in (None, known.revision):
            raise WeightsError(f"weights: {folder} holds {name} at {known.revision}, want {revision}; fetch it to another folder")
        return known
    try:
        # Asked for even when pinned: without a network this fails at once, but a download only after its retries.
        commit = huggingface_hub.HfApi().model_info(entry.repo, revision=revision).sha
        huggingface_hub.snapshot_download(entry.repo, revision=commit, local_dir=folder, allow_patterns=list(entry.files))
    except _NETWORK as error:
        raise WeightsError(
            f"weights: cannot download {entry.repo} ({first_line(error)}); try again where the network is reachable (it resumes), "
            f"or copy the files to {folder} by hand and record them"
        ) from error
    return records.record(folder, name=name, source=f"https://huggingface.co/{entry.repo}", revision=str(commit))
