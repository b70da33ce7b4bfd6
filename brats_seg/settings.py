"""The settings of each stage of a run, one pydantic model a section of its configuration (`config.py` joins them).

Every field is documented where it stands, with unit and range; an unknown key is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "InferenceConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "PostprocessingConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "Settings",
    "TrainConfig",
]

_DYNUNET_ARGUMENTS: dict[str, Any] = {
    "kernel_size": [3, 3, 3, 3, 3, 3],
    "strides": [1, 2, 2, 2, 2, 2],
    "upsample_kernel_size": [2, 2, 2, 2, 2],
    "filters": [32, 64, 128, 256, 320, 320],
    "norm_name": ["instance", {"affine": True}],
    "act_name": ["leakyrelu", {"negative_slope": 0.01, "inplace": True}],
    "deep_supervision": True,
    "deep_supr_num": 3,
}


Range = tuple[float, float]
"""Least and largest value."""


class Settings(BaseModel):
    """A section: unknown keys refused, values fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class DataConfig(Settings):
    """Which cases a run learns from."""

    store: str | None = None
    """Folder made by `brats-seg prepare`. Has to be given."""
    fold: Annotated[int, Field(ge=0)] | Literal["all", "none"] = 0
    """Fold held out for validation, from 0; `all` = one run a fold; `none` = learn from every case (a final model)."""
    num_folds: int = Field(5, ge=2)
    """Number of folds, where `split` is null."""
    split: str | None = None
    """JSON file made by `brats-seg split`; null = the same division of the store's cases, independent of the seed."""


class NetworkConfig(Settings):
    """Which network. Input and output channels come from the store's edition, never from here."""

    name: str = "dynunet"
    """Row of the registry in `networks/build.py`: dynunet, segresnet, segresnet_ds, swinunetr, unet, basicunet,
    basicunetplusplus, attentionunet, flexibleunet."""
    spatial_dims: Literal[2, 3] = 3
    """Axes of the network's kernels: 3 = volumes, 2 = slices; a patch of slices is one voxel thick along one axis."""
    neighbours: int = Field(0, ge=0, le=3)
    """Slices on either side of each slice that a network of two axes sees, too, as further channels (2.5D)."""
    stem: int = Field(1, ge=1, le=4)
    """Edge of the space-to-depth block before (depth-to-space behind) the network; 1 = none, 2 = five times faster."""
    arguments: dict[str, Any] = Field(
        default_factory=lambda data: dict(_DYNUNET_ARGUMENTS) if data.get("name") == "dynunet" else {}
    )
    """Arguments of the MONAI network, by MONAI's own names. A recipe's arguments replace these as a whole."""

    @model_validator(mode="after")
    def _volumes_have_no_neighbours(self) -> Self:
        if self.neighbours and self.spatial_dims == 3:
            raise ValueError(f"neighbours={self.neighbours} needs spatial_dims=2; a volume has them anyway")
        return self


class OptimizerConfig(Settings):
    """How weights follow gradients."""

    name: str = "adamw"
    """Row of the registry in `training/optimizers.py`: adamw, adam, adamax, sgd."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate, after warm-up. nnU-Net's for sgd is 0.01."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay: decoupled in adamw, added to the gradient in the others. nnU-Net's for sgd is 3e-5."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Nesterov momentum of sgd; the others have none."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the running means of gradient and squared gradient in adamw, adam and adamax."""
    gradient_clip: float = Field(12.0, gt=0)
    """Largest norm of the gradient of all weights together."""


class ScheduleConfig(Settings):
    """The learning rate over the steps."""

    name: str = "polynomial"
    """Row of the registry in `training/optimizers.py`: polynomial, cosine, constant; each after the warm-up."""
    warmup_steps: int = Field(100, ge=0)
    """Steps of linear rise from 0 to the peak."""
    power: float = Field(0.9, gt=0)
    """Exponent of the polynomial decay: peak x (1 - progress)^power."""
    floor: float = Field(0.01, ge=0, le=1)
    """Smallest learning rate, as a share of the peak."""


class LossConfig(Settings):
    """What is minimised."""

    name: str = "dice_ce"
    """Row of the registry in `networks/losses.py`: dice_ce (Dice + binary cross-entropy per region), dice, bce, focal,
    dice_focal, tversky, generalized_dice. A network with deep supervision weighs its heads 1, 1/2, 1/4 ..."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that row, by MONAI's names; `networks/losses.py` describes them."""


class SamplingConfig(Settings):
    """Where patches are taken."""

    foreground: float = Field(0.67, ge=0, le=1)
    """Share of patches that are centred near a voxel of a region; the rest lie anywhere in the brain's box."""
    region_weights: dict[str, float] = Field(default_factory=dict)
    """Relative weight of each region among the foreground patches; a region that is not named has 1."""
    jitter: float = Field(0.25, ge=0, le=0.5)
    """Largest shift of a foreground patch's centre from its voxel, as a share of the patch's edge."""


class AugmentationConfig(Settings):
    """Random changes of a training patch, drawn per sample; the defaults are nnU-Net's ranges and probabilities.

    Intensities are z-scores, so 1 is a standard deviation of the modality's brain. Ranges are drawn evenly.
    """

    flip: float = Field(0.5, ge=0, le=1)
    """Probability of mirroring, per axis; of slices, only within their plane, as all that follows."""
    rotation: float = Field(0.2, ge=0, le=1)
    """Probability of a rotation."""
    rotation_degrees: float = Field(30.0, ge=0, le=180)
    """Largest angle about each of the three axes, to either side (of slices: in their plane)."""
    scaling: float = Field(0.2, ge=0, le=1)
    """Probability of another scale, the same along all axes."""
    scaling_range: Range = (0.7, 1.4)
    """Voxels of the case per voxel of the patch: above 1 more of the brain is seen, smaller."""
    elastic: float = Field(0.0, ge=0, le=1)
    """Probability of an elastic deformation: cubic B-spline with control points 32 voxels apart."""
    elastic_voxels: float = Field(6.0, ge=0, le=16)
    """Largest standard deviation of the control points' displacement, in voxels."""
    noise: float = Field(0.1, ge=0, le=1)
    """Probability of added Gaussian noise."""
    noise_sd: float = Field(0.1, ge=0)
    """Largest standard deviation of that noise."""
    blur: float = Field(0.2, ge=0, le=1)
    """Probability of Gaussian blur; each modality is then blurred with probability 1/2."""
    blur_range: Range = (0.5, 1.0)
    """Its standard deviation in voxels, per modality and axis."""
    brightness: float = Field(0.15, ge=0, le=1)
    """Probability of multiplied intensities."""
    brightness_range: Range = (0.75, 1.25)
    """The factor, per modality; below and above 1 equally often."""
    contrast: float = Field(0.15, ge=0, le=1)
    """Probability of stretched or squeezed intensities about the patch's mean, within the patch's own range."""
    contrast_range: Range = (0.75, 1.25)
    """The factor, per modality; below and above 1 equally often."""
    low_resolution: float = Field(0.25, ge=0, le=1)
    """Probability of a coarser resolution; each modality then has it with probability 1/2."""
    low_resolution_range: Range = (0.5, 1.0)
    """Share of the voxels that are kept along each axis, per modality."""
    gamma: float = Field(0.3, ge=0, le=1)
    """Probability of a gamma curve; mean and standard deviation of the brain are kept."""
    gamma_inverted: float = Field(0.1, ge=0, le=1)
    """Probability of a gamma curve on the inverted intensities."""
    gamma_range: Range = (0.7, 1.5)
    """The exponent, per modality; below and above 1 equally often."""
    gain: float = Field(0.0, ge=0, lt=1)
    """Standard deviation of the factor 1 + N x gain that every patch gets, per modality; 0 = none."""
    shift: float = Field(0.0, ge=0)
    """Standard deviation of the offset that every patch gets, per modality; 0 = none."""
    modality_dropout: float = Field(0.0, ge=0, le=1)
    """Probability that modalities are missing (0 everywhere): each with probability 1/2, at least one is kept."""

    @field_validator(
        "scaling_range", "blur_range", "brightness_range", "contrast_range", "low_resolution_range", "gamma_range"
    )
    @classmethod
    def _range_is_one(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 < limits[0] <= limits[1]:
            raise ValueError(f"expected two numbers above 0, the smaller first, found {list(limits)}")
        return limits

    @field_validator("low_resolution_range")
    @classmethod
    def _resolution_is_lower(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[1] > 1:
            raise ValueError(f"expected shares of at most 1, found {list(limits)}")
        return limits


class TrainConfig(Settings):
    """The training loop."""

    init: str | None = None
    """RUN folder, weights file or bundled model to start from (fine-tuning), of the same modalities and regions; null =
    fresh weights. Where no `network` is given, it and all that is left open of patch, batch, ema, optimizer, loss,
    sampling, augmentation and `inference` are those of the weights' run."""
    steps: int = Field(25000, ge=1)
    """Number of optimizer steps."""
    patch: tuple[int, int, int] = (128, 128, 128)
    """Patch in voxels as (K, J, I); each a multiple of the network's stride x stem. Slices (`network.spatial_dims: 2`)
    are 1 thick: [1, 256, 256] axial, [256, 1, 256] coronal, [256, 256, 1] sagittal."""
    batch: int = Field(2, ge=1)
    """Patches a step, over all processes."""
    accumulate: int = Field(1, ge=1)
    """Parts of a step's batch that go through the network one after another, for small memories; divides `batch`."""
    checkpoint_activations: bool = False
    """Whether the network's blocks are computed again in the backward pass instead of kept: less memory, more time."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto = bf16 on CUDA and on CPUs with AMX or AMD's avx512_bf16, fp32 elsewhere. fp16 (scaled loss): GPUs alone."""
    compile: Literal["auto", True, False] = "auto"
    """Whether torch.compile makes the network's kernels (a minute or two at the start); auto = on CUDA alone."""
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Order of the network's values in memory; auto = what is faster for the network, device and precision."""
    store_device: Literal["auto", "disk", "ram", "device"] = "auto"
    """Where the training cases lie: auto = on the GPU if they take up to 40 % of its free memory, else on disk."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; with data.fold=all also several (cuda:0,cuda:1), a fold on each; auto = all GPUs."""
    threads: int | None = Field(None, ge=1)
    """Compute threads on a CPU; null = all cores this process may use. Another number gives other last bits."""
    validate_every: int = Field(1000, ge=1)
    """Steps between validations on whole cases; the first and the last step are always validated."""
    validation_cases: int | None = Field(None, ge=1)
    """Validate on so many cases of the fold during training (all at the end); null = all."""
    checkpoint_every: int = Field(250, ge=1)
    """Steps between states from which a run can resume."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the running average of the weights that is validated and kept; 0 = none."""
    early_stopping: int | None = Field(None, ge=1)
    """Stop after so many validations without a better mean Dice; null = never."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    sampling: SamplingConfig = SamplingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()

    @field_validator("patch")
    @classmethod
    def _patch_is_positive(cls, patch: tuple[int, int, int]) -> tuple[int, int, int]:
        if sorted(patch)[1] < 8 or 1 < min(patch) < 8 or min(patch) < 1:
            raise ValueError(f"each edge must be at least 8 voxels (slices: one edge 1), found {list(patch)}")
        return patch

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError(f"batch={self.batch} cannot be divided into accumulate={self.accumulate} equal parts")
        return self


class PostprocessingConfig(Settings):
    """What is done to region masks, in this order (`inference/postprocessing.py`); a region not named is left alone."""

    threshold: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """Region -> probability from which a voxel belongs to it, over `inference.threshold`."""
    fill_holes: dict[str, bool] = Field(default_factory=dict)
    """Region -> whether holes that are closed on all sides are filled."""
    min_component_voxels: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Region -> voxels that a 26-connected component must have; smaller ones are dropped, with what lies in them."""
    min_et_voxels: int = Field(0, ge=0)
    """Voxels of ET that a case must have; fewer become NCR, that is, stay in TC alone (the rule that won 2020)."""


class InferenceConfig(Settings):
    """How whole cases are predicted, in validation and by `brats-seg predict`."""

    window: tuple[int, int, int] | Literal["auto"] | None = None
    """Window in voxels as (K, J, I); null = the training patch: normalisation layers see the window's statistics. auto
    = at the end of the training 1, 1.25 and 1.5 times the patch are tried on the held-out cases; the best is kept."""
    overlap: float = Field(0.5, ge=0, lt=1)
    """Smallest share of a window that its neighbour covers again."""
    tta: Literal["none", "flips"] | tuple[Literal["K", "J", "I"], ...] = "none"
    """Test-time augmentation: mean probability over all eight mirrorings, or those along some axes ([I]: two)."""
    batch: int = Field(1, ge=1)
    """Windows and their mirrorings that go through the network together; without effect on the result."""
    compile: Literal["auto", True, False] = "auto"
    """Whether torch.compile makes the network's kernels for `predict`; auto = on CUDA, for many cases."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which a voxel belongs to a region."""
    postprocessing: PostprocessingConfig = PostprocessingConfig()

    @field_validator("tta")
    @classmethod
    def _axes_differ(cls, tta: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(tta, str) and (not tta or len(set(tta)) < len(tta)):
            raise ValueError(f"expected none, flips, or different axes such as [J, I], found {list(tta)}")
        return tta
