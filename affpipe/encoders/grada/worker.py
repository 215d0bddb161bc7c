"""Worker that embeds the subject's face crops with GRADA."""

import numpy as np

from affpipe.core.stage import Context
from affpipe.encoders.running import place
from affpipe.store.item_streams import Job, Worker, blank, blocks
from affpipe.system.weights.pin import checkpoint

FACES = 256


def grada(context: Context) -> Worker:
    """Make the worker of the subject's expression: values (T, 256), `emotion` (T, 8) logits, `va` (T, 2); float32, valid where seen."""
    from affpipe.encoders.grada.network import load
    from affpipe.faces.crop import decode_jpeg

    s = context.settings
    path, random = checkpoint(context)
    encoder = load(path, **place(context), side=s.side, batch_size=s.batch_size, backend=s.backend)

    def work(job: Job) -> None:
        with job.open("subject") as who, job.open("faces") as found, job.writing(job.header(who.fps, random=random)) as out:
            row, box, crop_box = who.rows("row"), found.rows(), found.rows("crop_box")
            for block in blocks(len(row), FACES):
                seen, parts = row[block] >= 0, {}
                rows = row[block][seen]
                crops = map(decode_jpeg, found.blobs("crop", rows))
                faces = [inner(crop, crop_box[i], box[i], s.margin) for i, crop in zip(rows, crops, strict=True)]
                for name, part in zip(("values", "emotion", "va"), encoder.extract(faces), strict=True):
                    parts[name] = blank(len(seen), part.shape[1:])
                    parts[name][seen] = part
                out.append(**parts, start_s=who.start_s[block], end_s=who.end_s[block], valid=seen)

    return work


def inner(crop: np.ndarray, crop_box: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """Cut out the part of a stored crop that `box` covers, widened on each side by `margin` of its own width or height.

    Args:
        crop, crop_box: as from `affpipe.faces.crop.cut`; black outside of the frame.
        box: (4,) xyxy in pixels of the frame, within what was cut.
    """
    box = np.asarray(box, np.float64)
    wider = margin * (box[2:] - box[:2])
    corners = np.concatenate([box[:2] - wider, box[2:] + wider]).reshape(2, 2) - crop_box[:2]
    corners = np.round(corners * len(crop) / (crop_box[2] - crop_box[0])).astype(int)
    left, top = corners[0].clip(0, len(crop) - 1)
    right, bottom = np.maximum(corners[1].clip(0, len(crop)), (left + 1, top + 1))  # a box narrower than a pixel becomes one wide
    return np.ascontiguousarray(crop[top:bottom, left:right])  # a view would keep the whole crop in memory
