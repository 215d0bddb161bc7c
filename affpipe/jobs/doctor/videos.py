"""The media of a manifest: whether they open, what they declare, whether the first frame decodes, and whether they have changed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from affpipe.core import alike
from affpipe.core.errors import MediaError
from affpipe.jobs import stale
from affpipe.jobs.doctor.finding import Finding, fault, fine, of_error, warning
from affpipe.media.declared import Declared, declared
from affpipe.plan.plan import Plan
from affpipe.system import faults
from affpipe.system.processes import Late, in_processes

FILE_S = 10.0  # seconds in which a file must open
PROCESSES = min(8, os.cpu_count() or 1)
READERS = 2  # processes that read whole files: the disk is the slowest part
LISTED = 20  # kinds of faults that are reported


def check(paths: list[Path], limit_s: float, *, file_s: float = FILE_S) -> tuple[dict[Path, Declared], list[Finding]]:
    """Open videos within `limit_s`; return what the sound ones declare, and findings: each fault, then one line on all."""
    found: dict[Path, Declared] = {}
    faults = []
    for path, result in in_processes(look, paths, processes=PROCESSES, limit_s=limit_s, each_s=file_s):
        if isinstance(result, Declared):
            found[path] = result
        elif isinstance(result, Late) and result.gone:
            faults.append(fault("video", f"{path}: it ends the process that opens it", "take it out of the manifest"))
        elif isinstance(result, Late):
            faults.append(fault("video", f"{path}: did not open within {file_s:.0f} s", "copy it nearer, or take it out of the manifest"))
        else:
            faults.append(of_error("video", MediaError(result)))
    kinds = alike.groups(sorted(faults, key=lambda f: f.found), lambda f: (alike.shape(f.found), alike.shape(f.remedy)))
    told = [found for own in kinds[:LISTED] for found in _few(own)]
    if rest := sum(map(len, kinds[LISTED:])):
        told.append(fault("video", f"{rest} more, of other kinds", "mend those above, then ask again"))
    return found, [*told, _whole(found, len(faults), len(paths), limit_s)]


def _few(own: list[Finding]) -> list[Finding]:
    """Return similar findings; of many only the first one, with a count."""
    if len(own) <= alike.FEW:
        return own
    return [replace(own[0], found=f"{own[0].found} (and {len(own) - 1} more like it)")]


def look(path: Path) -> Declared | str:
    """Return what a video declares, after decoding its first frame; else what is wrong with it."""
    try:
        return declared(path, first_frame=True)
    except Exception as error:
        return faults.said(str(path), error)


def _whole(found: dict[Path, Declared], faults: int, wanted: int, limit_s: float) -> Finding:
    opened = f"{len(found)} videos opened, {sum(v.duration_s for v in found.values()) / 3600:.1f} hours, {faults} faults"
    silent, vary = sum(not v.audio for v in found.values()), sum(v.variable_rate for v in found.values())
    said = f"{opened}, {silent} without audio, {vary} of variable rate"
    if changed := sum(bool(v.treated) for v in found.values()):
        said += f", {changed} of other pixels, HDR or interlaced (`affpipe manifest check --media quick` names them)"
    if missed := wanted - len(found) - faults:
        return warning("media", f"{said}; {missed} not reached within {limit_s:.0f} s", "give more --seconds")
    return fine("media", said)


def unchanged(plan: Plan, limit_s: float) -> Iterator[Finding]:
    """Yield findings on videos that have changed since they were read, though their identity has not: a run would use the old ones.

    Args:
        plan: the videos are those whose frames are in its cache. limit_s: seconds in which they must be read.
    """
    streams = {item.row.video: plan.stream("frames", item) for item in plan.items("frames")}
    items = [(video, then) for video, stream in streams.items() if stream.is_file() and (then := stale.read_then(stream))]
    reached = changed = 0
    for (video, _), found in in_processes(_compared, items, processes=READERS, limit_s=limit_s, each_s=limit_s):
        if isinstance(found, Late):
            continue
        reached += 1
        if isinstance(found, str):
            yield of_error("content", MediaError(found))
        elif found:
            changed += 1
            what = f"{video}: want the file that was read, got one that has changed since, though its identity has not"
            yield fault("content", what, "`affpipe cache verify` deletes what was made of it; then run again")
    if missed := len(items) - reached:
        yield warning(
            "content", f"{missed} of {len(items)} videos not compared with what was read, for want of time", "give more --seconds"
        )
    elif items and not changed:
        yield fine("content", f"{len(items)} videos are what was read of them")


def _compared(item: tuple[Path, str]) -> bool | str:
    """Tell whether a video has changed, or what is wrong with it."""
    try:
        return stale.changed(*item)
    except MediaError as error:
        return str(error)
