"""Networks compiled by OpenVINO for an Intel or AMD CPU. The package is optional: `pip install affpipe[openvino]`."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from affpipe.core.errors import SettingsError

PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16"}


def compiled(who: str, network: nn.Module, example: Tensor, *, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Compile a float32 network with several outputs to a function of tensors like `example`, with any length of the first axis.

    It computes in `dtype` (in float32 on a CPU without bfloat16), with as many threads as torch has now. Raises SettingsError without the
    package.
    """
    try:
        from openvino import Core
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    except ImportError:
        remedy = "pip install affpipe[openvino], or set backend: torch"
        raise SettingsError(f"{who}: backend openvino wants the package openvino, got none; {remedy}") from None
    # The frontend is called directly: openvino.convert_model reports its use to its makers.
    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch prefers export to tracing
        traced = TorchScriptPythonDecoder(network, example_input=example)  # bound to a name, since the frontend does not keep it alive
        model = frontend.convert(frontend.load(traced))
    model.reshape([-1, *example.shape[1:]])
    options = {"INFERENCE_PRECISION_HINT": PRECISION[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    run = Core().compile_model(model, "CPU", options)
    return lambda x: tuple(map(torch.from_numpy, run(x.numpy()).to_tuple()))
