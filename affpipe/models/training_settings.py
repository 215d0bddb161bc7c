"""Settings of fitting: losses, optimiser, the choice of the epoch, augmentation."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from affpipe.core.section import Name, Section, later
from affpipe.models.terms.table import Term


def _odd(frames: int) -> int:
    if frames % 2 == 0:
        raise ValueError(f"want an odd number, which has a middle, got {frames}")
    return frames


Odd = Annotated[int, AfterValidator(_odd)]  # frames of a filter


class Errors(Section):
    """Terms beside 1 - CCC, and the rows over which a CCC is taken (Team RAS, sec. 4.2)."""

    mae_weight: float = Field(0.0, ge=0)
    mse_weight: float = Field(0.0, ge=0)
    over: Literal["batch", "window"] = Field("batch", description="one CCC over all rows of a batch, or the mean of one per window")


class VALoss(Errors):
    """1 - CCC, with optional MAE and MSE terms (Team RAS, sec. 4.2)."""

    valence_weight: float = Field(0.5, ge=0)
    arousal_weight: float = Field(0.5, ge=0)

    @property
    def weights(self) -> dict[str, float]:
        """Dimension -> weight."""
        return {"valence": self.valence_weight, "arousal": self.arousal_weight}

    @model_validator(mode="after")
    def _something(self):
        if not any((self.valence_weight, self.arousal_weight, self.mae_weight, self.mse_weight)):
            raise ValueError("want a weight that is not zero, got none: nothing would be learned")
        return self


class ExprLoss(Section):
    """Cross-entropy, or focal loss with class weights by effective number (safe cross-attention, sec. 3)."""

    kind: Literal["cross_entropy", "focal"] = "cross_entropy"
    gamma: float = Field(2.0, ge=0, description="with focal: the greater, the less well-predicted frames weigh")
    class_weights: Literal["none", "effective_number"] = Field("none", description="weights of the classes, from the training labels")
    beta: float = Field(
        0.99999,
        ge=0,
        lt=1,
        description="with effective_number: the nearer to 1, the more rare classes weigh",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="with cross_entropy: share of each label that is spread over all classes")

    @model_validator(mode="after")
    def _smoothing(self):
        if self.label_smoothing and self.kind != "cross_entropy":
            raise ValueError(f"label_smoothing: only cross_entropy has it, got {self.label_smoothing} with {self.kind}; set 0")
        return self


class AULoss(Section):
    """Binary cross-entropy of every unit."""

    positive_weights: Literal["none", "balanced"] = Field(
        "none", description="weight of frames with the unit; balanced: frames without it over frames with it, in the training labels"
    )
    limit: float = Field(10.0, ge=1, description="greatest balanced weight; one over it is the least")


class TaskLoss(Errors, ExprLoss, AULoss):
    """The loss of a further task, with the settings that its kind has in the losses of va (dimensions), expr (classes) and au (units)."""

    weight: float = Field(1.0, gt=0, description="weight of the task beside the others")
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="weights of dimensions, by name; none given: one over their number for each"
    )


LOSS_FIELDS = {"dimensions": {"weights", *Errors.model_fields}, "classes": {*ExprLoss.model_fields}, "units": {*AULoss.model_fields}}


class Loss(Section):
    """A loss for each task of the run, and its weight beside the others. A frame counts for the tasks of which it has labels."""

    va: VALoss = VALoss()
    expr: ExprLoss = ExprLoss()
    au: AULoss = AULoss()
    va_weight: float = Field(1.0, gt=0)
    expr_weight: float = Field(1.0, gt=0)
    au_weight: float = Field(1.0, gt=0)
    tasks: dict[Name, TaskLoss] = later({}, description="losses of further tasks, by name")

    def of(self, task: str) -> VALoss | ExprLoss | AULoss | TaskLoss:
        """Return the settings of a task's loss."""
        return getattr(self, task) if task in OFFICIAL else self.tasks.get(task, TaskLoss())

    def weight(self, task: str) -> float:
        """Return the weight of a task beside the others."""
        return getattr(self, f"{task}_weight") if task in OFFICIAL else self.of(task).weight


OFFICIAL = ("va", "expr", "au")  # tasks whose settings have fields of their own


class Smooth(Section):
    """A centred filter over the frames of a prediction, its ends held (Team RAS, public code)."""

    filter: Literal["none", "mean", "median"] = "none"
    valence_frames: Odd = Field(1, ge=1)
    arousal_frames: Odd = Field(1, ge=1)
    frames: dict[str, Annotated[Odd, Field(ge=1)]] = later({}, description="lengths for dimensions of your own, by name; none given: 1")

    def of(self, dimension: str) -> int:
        """Return the length of the filter over a dimension."""
        return getattr(self, f"{dimension}_frames", None) or self.frames.get(dimension, 1)


class Training(Section):
    """Fitting of a model (Team RAS, sec. 4.2, where a value is given there)."""

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    backbone_learning_rate: float = Field(5e-6, gt=0, description="learning rate of the encoder layers that the model trains, if any")
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["plateau", "cosine", "constant"] = Field(
        "plateau", description="course of the learning rates by epoch; cosine falls to 0"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs in which the rates of `cosine` and `constant` rise linearly")
    plateau_factor: float = Field(0.1, gt=0, lt=1)
    plateau_patience: int = Field(5, ge=0)
    plateau_groups: Literal["all", "head"] = Field(
        "all", description="rates that a plateau lowers; head: not those of the encoder's layers"
    )
    plateau_threshold: float = later(
        1e-4, ge=0, lt=1, description="least gain over the best score so far that ends a plateau, as a share of it"
    )
    plateau_least_rate: float = later(0.0, ge=0, description="least rate to which a plateau lowers")
    stop_patience: int = Field(15, ge=1)
    clip_norm: float | None = Field(1.0, gt=0, description="greatest norm of all gradients of a step; null: gradients stay as they are")
    precision: Literal["float32", "mixed"] = later(
        "float32",
        description="mixed: forward passes of training in float16 with a scaled loss on CUDA, in bfloat16 on a CPU; weights and all that "
        "comes after it stay float32",
    )
    score: Literal["rows", "frames"] = later(
        "rows", description="rows that choose the epoch: those of the model's own rate, or all labelled frames, brought there as published"
    )
    score_smooth: Smooth = later(Smooth(), description="with score: frames, the filter over valence and arousal before they are scored")
    seed: int | None = later(None, ge=0, lt=2**32, description="seed of this model's fits; none: that of the run")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="decay per step of the moving average of the weights; the average is kept"
    )
    loss: Loss = Loss()
    terms: tuple[Term, ...] = later((), description="terms added to the loss of the tasks, each by its weight")

    @model_validator(mode="after")
    def _warmup(self):
        if self.warmup_epochs and self.schedule == "plateau":
            raise ValueError(f"warmup_epochs: only cosine and constant warm up, got {self.warmup_epochs} with plateau; set 0")
        if self.score_smooth.filter != "none" and self.score == "rows":
            raise ValueError("score_smooth: it filters frames, got score: rows; set score: frames")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: want fewer than epochs, got {self.warmup_epochs} of {self.epochs}")
        return self


class Augment(Section):
    """Random changes of a training waveform, in this order, with the chance and the range of each (Team RAS, public code)."""

    REVISION: ClassVar[int] = (
        2  # raised when its code changes values, like a revision of `affpipe.plan.plan`, for models that augment alone
    )

    gain_probability: float = Field(0.3, ge=0, le=1)
    gain_db: float = Field(6.0, ge=0, le=40, description="greatest gain, up or down")
    noise_probability: float = Field(0.6, ge=0, le=1)
    noise_snr_db: tuple[float, float] = (8.0, 25.0)
    band_probability: float = Field(0.3, ge=0, le=1)
    low_pass_probability: float = Field(0.5, ge=0, le=1, description="chance that a band limit is a low-pass instead of a band")
    low_pass_share: tuple[float, float] = Field(
        (0.15, 0.45), description="share of the spectrum's bins that a low-pass keeps: least and most"
    )
    band_low_share: tuple[float, float] = Field(
        (0.03, 0.12), description="share of the bins below a band, which are removed: least and most"
    )
    band_high_share: tuple[float, float] = Field((0.18, 0.5), description="share of the bins up to the upper end of a band: least and most")
    reverb_probability: float = Field(0.2, ge=0, le=1)
    reverb_s: tuple[float, float] = Field((0.05, 0.2), description="least and most seconds that a room rings")
    reverb_decay: tuple[float, float] = Field((2.0, 8.0), description="decay of the ring, to exp(-decay) at its end: least and most")
    reverb_mix: tuple[float, float] = Field((0.1, 0.4), description="share of the sound that comes from the room: least and most")

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"revision": self.REVISION}

    @model_validator(mode="after")
    def _ranges(self):
        for name, least, most in (
            ("noise_snr_db", -math.inf, math.inf),
            *((name, 0, 1) for name in ("low_pass_share", "band_low_share", "band_high_share", "reverb_mix")),
            ("reverb_s", 0, 10),
            ("reverb_decay", 0, math.inf),
        ):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: want the lower figure first, got {(low, high)}")
            if low < least or high > most:
                raise ValueError(f"{name}: want figures from {least} to {most}, got {(low, high)}")
        if self.band_low_share[1] > self.band_high_share[0]:
            got = f"{self.band_low_share} and {self.band_high_share}"
            raise ValueError(f"want band_low_share that ends before band_high_share begins, got {got}")
        return self
