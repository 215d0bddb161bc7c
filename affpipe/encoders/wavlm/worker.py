"""Worker that runs WavLM on windows of sound."""

from affpipe.core.stage import Context
from affpipe.encoders.running import place, windowed
from affpipe.store.item_streams import Worker
from affpipe.system.weights.pin import checkpoint


def wavlm(context: Context) -> Worker:
    """Make the worker of speech per window: values (W, F, D) float16 hidden states, with `trained_layers` the input of the top ones.

    `steps` (W,) int32 of the F are real audio, the rest is padding.
    """
    from affpipe.encoders.wavlm.network import load

    s = context.settings
    folder, random = checkpoint(context)
    depth = {"layer": s.layer, "trained_layers": s.trained_layers}
    encoder = load(folder, **place(context), normalise=s.normalise, **depth, batch_size=s.batch_size)
    return windowed(context, encoder, random)
