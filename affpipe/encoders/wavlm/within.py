"""WavLM within a model: the top layers, which the model trains, and the frozen ones, which it may run on sound."""

from affpipe.core.stage import Context
from affpipe.encoders.running import place
from affpipe.encoders.wavlm.layers import Top, split
from affpipe.encoders.wavlm.network import WavLM
from affpipe.encoders.wavlm.network import load as load_network
from affpipe.system.weights.pin import checkpoint

__all__ = ["Top", "load", "split"]


def load(context: Context, trained: int) -> tuple[WavLM, tuple[str, ...]]:
    """Load the whole network of a feature whose top layers are trained, with the names of its weights if they are random."""
    path, random = checkpoint(context)
    s = context.settings
    return load_network(path, **place(context), normalise=s.normalise, layer=s.layer, trained_layers=trained), random
