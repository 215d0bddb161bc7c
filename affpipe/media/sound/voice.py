"""Voice activity: the probability of speech in every 32 ms of sound.

Source: Silero VAD 6 (snakers4/silero-vad, MIT), its network for 16 kHz. The package brings the weights and is not imported. The network is
reimplemented here, equal to the published one: magnitudes of a short-time Fourier transform, four convolutions, an LSTM over the steps.
Only the LSTM depends on what came before, so all else runs on many steps at once.

The package's TorchScript file is read, since the package itself runs that one. Its safetensors file holds an older network, whose
probabilities differ by up to .3 (https://github.com/snakers4/silero-vad/issues/768).

Shapes: N samples, R steps of 512 samples, the last one padded with silence.
"""

import hashlib
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affpipe.core.errors import InputError, WeightsError
from affpipe.system.weights.reading import UNREADABLE, first_line

RATE_HZ = 16000
VERSION, SHA256 = "6.2.3", "e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720"
STEP, CONTEXT = 512, 64  # samples of a step, and samples before it that the network sees with it
WINDOW, HOP = 256, 128  # samples of the transform; at the end of a step HOP / 2 samples are mirrored
BINS, WIDTH = WINDOW // 2 + 1, 128
BLOCK = 2048  # steps at a time: about a minute
NAMES = {  # name here -> name in the published file, which also holds a network for 8 kHz
    "stft.weight": "_model.stft.forward_basis_buffer",
    **{f"convs.{i}.{part}": f"_model.encoder.{i}.reparam_conv.{part}" for i in range(4) for part in ("weight", "bias")},
    **{f"rnn.{part}_l0": f"_model.decoder.rnn.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **{f"out.{part}": f"_model.decoder.decoder.2.{part}" for part in ("weight", "bias")},
}


class Network(nn.Module):
    """Layers of the voice detector."""

    def __init__(self):
        super().__init__()
        self.stft = nn.Conv1d(1, 2 * BINS, WINDOW, stride=HOP, bias=False)  # cosines, then sines
        sizes = ((BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, WIDTH, 1))
        self.convs = nn.ModuleList(nn.Conv1d(inside, outside, 3, stride=stride, padding=1) for inside, outside, stride in sizes)
        self.rnn = nn.LSTM(WIDTH, WIDTH)
        self.out = nn.Conv1d(WIDTH, 1, 1)

    def forward(self, steps: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map successive steps with their context (R, CONTEXT + STEP) to probabilities (R,) and the state after the last step."""
        x = self.stft(F.pad(steps, (0, HOP // 2), mode="reflect").unsqueeze(1))  # (R, 2 BINS, 4)
        x = (x[:, :BINS].square() + x[:, BINS:].square()).sqrt()
        for conv in self.convs:
            x = conv(x).relu()  # 4, 2, 1 and 1 columns
        x, state = self.rnn(x.squeeze(-1), state)  # (R, WIDTH)
        return self.out(x.relu().unsqueeze(-1)).sigmoid().flatten(), state


class Silero:
    """Voice detector."""

    def __init__(self, network: Network, *, device: torch.device):
        self.network, self.device = network.eval().to(device), device

    @torch.inference_mode()
    def extract(self, samples: np.ndarray) -> np.ndarray:
        """Return the probability of speech in mono 16 kHz sound (N,) float32 in [-1, 1] as (ceil(N / 512),) float32.

        Step r begins at sample 512 r. `samples` is an array, or something sliced like one: a minute of it is read at a time. Raises
        InputError for anything else.
        """
        count = -(-len(samples) // STEP)
        out, state = np.empty(count, np.float32), None
        for first in range(0, count, BLOCK):
            stop = min(first + BLOCK, count)
            begin, end = first * STEP - CONTEXT, stop * STEP
            piece = samples[max(begin, 0) : end]
            if piece.dtype != np.float32 or piece.ndim != 1 or not np.isfinite(piece).all():
                raise InputError(f"silero: want finite float32 samples (N,), got {piece.dtype} {piece.shape}; decode the audio again")
            piece = np.pad(piece, (max(-begin, 0), max(end - len(samples), 0)))
            steps = torch.from_numpy(piece).to(self.device).unfold(0, CONTEXT + STEP, STEP)  # (R, CONTEXT + STEP)
            found, state = self.network(steps, state)
            out[first:stop] = found.cpu().numpy()
        return out


def published() -> Path:
    """Return the weights file in the installed package silero-vad, which must be the one that this code was written for."""
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise WeightsError(f"silero: want the package silero-vad {VERSION}, got none; install it, or set vad.model: none")
    path = Path(spec.origin).parent / "data" / "silero_vad.jit"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise WeightsError(f"silero: want the weights of silero-vad {VERSION}, got others at {path}; install that version")
    return path


def load(path: Path, *, device: torch.device) -> Silero:
    """Load the detector with the weights in a file. Raises WeightsError if the file does not hold them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch prefers another format, which is not published
            found = torch.jit.load(path, map_location="cpu").state_dict()
    except UNREADABLE as error:
        raise WeightsError(f"silero: {path} does not read ({first_line(error)}); install silero-vad again") from error
    network = Network()
    try:
        network.load_state_dict({ours: found[theirs] for ours, theirs in NAMES.items()})
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"silero: {path} holds another network ({first_line(error)}); install the pinned silero-vad") from error
    return Silero(network, device=device)
