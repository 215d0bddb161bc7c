"""Annotation files of a stream, checked and laid on its frames."""

import logging

import numpy as np

from affpipe.core.stage import Context
from affpipe.core.tasks.task import slices, width
from affpipe.data import label_files
from affpipe.store.item_streams import Job, Worker

log = logging.getLogger("affpipe")


def labels(context: Context) -> Worker:
    """Return the worker of labels per frame.

    It writes values (T, K) float64, the columns of the run's tasks one after another, zero where there is none. `known` (T, tasks) bool
    says for which tasks a frame has a label, `valid` whether it has one at all. In a file with one line per frame, row i is frame i: rows
    beyond the end of the video are dropped, and frames beyond the end of the file have no label. The attribute `extra.files` holds the rows
    of each file and how many have a label; the log reports odd ones.
    """
    tasks = context.tasks
    at, columns = slices(tasks, "columns"), tuple(c for task in tasks.values() for c in task.columns)

    def work(job: Job) -> None:
        axis = job.axis()
        values, known, files = np.zeros((len(axis), width(tasks, "columns"))), np.zeros((len(axis), len(tasks)), bool), {}
        for i, (name, task) in enumerate(tasks.items()):
            if name in job.item.row.labels:
                path = job.item.row.labels[name]
                own = label_files.read(task, path, media=job.item.row.video.name)
                if odd := own.odd(len(axis), axis.end_s - axis.start_s):
                    log.warning("labels: %s: %s", path, odd)
                values[:, at[name]], known[:, i] = own.on_frames(axis)
                if not known[:, i].any():
                    log.warning("labels: %s: want a label of some frame, got none in %d lines; look whether that is right", path, own.rows)
                files[name] = {"rows": own.rows, "labelled": own.labelled}
        header = job.header(axis.fps, columns=columns, files=files)
        job.write(header, values=values, start_s=axis.times_s, end_s=axis.ends_s, valid=known.any(axis=1), known=known)

    return work
