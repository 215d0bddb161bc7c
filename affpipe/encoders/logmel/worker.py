"""Worker that computes log-mel spectrograms of windows of sound."""

from affpipe.core.stage import Context
from affpipe.encoders.running import windowed
from affpipe.store.item_streams import Worker


def logmel(context: Context) -> Worker:
    """Make the worker of spectra per window: values (W, F, mels) float16; `steps` (W,) int32 of the F are real audio."""
    from affpipe.encoders.logmel.network import LogMel

    s = context.settings
    rate = context.see("audio").sample_rate_hz
    return windowed(context, LogMel(n_mels=s.mels, window_s=s.frame_s, hop_s=s.step_s, sample_rate_hz=rate), ())
