"""Catalogue of published weights that can be fetched by name.

`revision` is the commit to take. None means that no recipe pins one: then the newest is resolved once, when it is fetched, and recorded.
Licences are those of the model cards; read them before use.
"""

from dataclasses import dataclass

from affpipe.core.stage import Network


@dataclass(frozen=True)
class Entry:
    """Model on the Hugging Face hub, with the files of it that are needed."""

    repo: str
    revision: str | None
    files: tuple[str, ...]
    licence: str


_WAVLM_FILES = ("config.json", "preprocessor_config.json", "pytorch_model.bin", "model.safetensors")

CATALOG: dict[str, Entry] = {
    # The commit that Team RAS's published code uses.
    "qwen3-vl-4b": Entry(
        "Qwen/Qwen3-VL-4B-Instruct",
        "ebb281ec70b05090aa6165b016eac8ec08e71b17",
        ("*.json", "*.safetensors", "*.txt", "*.jinja"),
        "Apache-2.0",
    ),
    "wavlm-large": Entry("microsoft/wavlm-large", None, _WAVLM_FILES, "see the model card"),
    "wavlm-base": Entry("microsoft/wavlm-base", None, _WAVLM_FILES, "see the model card"),
    # Its *.py files are not fetched: no code of a checkpoint is ever run.
    "odyssey": Entry("3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes", None, ("config.json", "model.safetensors"), "MIT"),
}

# Sizes by model cards and configurations, for weights that are not on this disk.
PUBLISHED = {
    "qwen3-vl-4b": Network(4_440_000_000, 2560, False),
    "odyssey": Network(319_000_000, 1024, False),
    "wavlm-large": Network(316_000_000, 1024, False),
    "wavlm-base": Network(95_000_000, 768, False),
}
