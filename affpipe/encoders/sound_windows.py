"""Worker that runs any audio encoder on windows of sound."""

import numpy as np

from affpipe.core.axis import segments
from affpipe.core.stage import Context
from affpipe.encoders.running import half
from affpipe.store.item_streams import Job, Worker, blocks

WINDOWS = 16  # windows between two writes, which are held in memory


def windowed(context: Context, encoder, random: tuple[str, ...]) -> Worker:
    from affpipe.media.sound.audio import windows

    s, rate = context.settings, context.see("audio").sample_rate_hz

    def work(job: Job) -> None:
        axis = job.axis()
        sound = job.sound()
        cut = segments(axis.start_s, axis.end_s, length_s=s.length_s, hop_s=s.hop_s)
        begin_s = cut[:, 0] - axis.start_s
        with job.writing(job.header(axis.fps, random=random)) as out:
            for block in blocks(len(cut), max(WINDOWS, encoder.batch_size)):
                waves, lengths = windows(sound, begin_s[block], length_s=s.length_s, sample_rate_hz=rate)
                steps = np.array([encoder.frame_count(int(n)) for n in lengths], np.int32)
                values = half(job, "values", encoder.extract(waves, lengths))
                out.append(values=values, steps=steps, start_s=cut[block, 0], end_s=cut[block, 1], valid=steps > 0)

    return work
