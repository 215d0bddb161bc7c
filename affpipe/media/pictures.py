"""Pictures of a job's video, decoded with the settings of the stage `frames`, at the times that it found."""

from collections.abc import Iterator

import numpy as np

from affpipe.core.axis import FrameAxis
from affpipe.core.errors import MediaError
from affpipe.store.item_streams import Job


def pictures(job: Job, axis: FrameAxis, wanted: np.ndarray | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
    """Yield (index, time_s, rgb (H, W, 3) uint8) of all frames or of those wanted, see `decode.frames`.

    Raises MediaError if there are more frames than on the axis.
    """
    from affpipe.media.picture.decode import frames

    s = job.context.see("frames")
    ways = {"track": job.video_track(), "deinterlace": s.deinterlace, "tone_map": s.tone_map}
    for index, _, image in frames(job.video, backend=s.backend, **ways, wanted=wanted):
        if index >= len(axis):
            raise MediaError(f"{job.video}: want {len(axis)} frames as when it was probed, got more; the file changed: run again")
        yield index, float(axis.times_s[index]), image
