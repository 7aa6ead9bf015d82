"""Section of the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from padim_dist.config.align import AlignConfig
from padim_dist.config.base import Section
from padim_dist.config.roi import Roi
from padim_dist.core.choices import Engine, Jpeg, Precision, Reduction
from padim_dist.core.geometry import InputGeometry

Size = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    BeforeValidator(lambda value: (value, value) if isinstance(value, int) else value),
]


class ModelConfig(Section):
    """The embedding and its Gaussian; all of it is part of a model's identity."""

    backbone: str = "resnet18"
    """A torchvision classification model, ``timm/NAME``, or a function that returns a network of
    your own, ``module:function``."""
    weights: str = "IMAGENET1K_V1"
    """A weights name of torchvision or timm, a path or URL of a state dict, or ``random``."""
    layers: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    """Names of layers with feature maps, or of blocks of a vision transformer; auto: those of the
    paper, for the tested backbones."""
    channels: (
        Literal["auto"]
        | Annotated[int, Field(ge=1)]
        | Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
        | None
    ) = "auto"
    """Number of channels that are kept, in all or of each layer; auto: the number in the paper;
    null: all."""
    reduction: Reduction = "draw"
    """``draw``: keep channels drawn at random, as the paper does. ``project``: project each layer
    at random to so many dimensions, which depends less on the seed."""
    seed: int = Field(1024, ge=0, lt=2**63)
    """Seed of the draw of channels and of random weights."""
    resize: Size = (256, 256)
    """Height and width after the resize; one number for a square."""
    crop: Size = Field(None, validate_default=True)
    """Height and width of the centre crop; one number for a square. Null: no crop, the model sees
    the whole picture. The paper crops 224 out of 256 for MVTec AD."""
    align: AlignConfig | None = None
    """Turn and shift images before they are embedded, so that they lie as a reference does: for
    parts or cameras that move. Null: as they are."""
    epsilon: float = Field(0.01, gt=0)
    """Added to the diagonal of every covariance."""
    shrinkage: Literal["none", "oas"] = "none"
    """``oas``: shrink every covariance towards a multiple of the identity, by a share estimated
    from the images, instead of adding epsilon."""
    sigma: float = Field(4.0, ge=0)
    """Standard deviation of the Gaussian filter on the anomaly map, in pixels."""
    engine: Engine = "torch"
    """What runs the trunk: ``torch``, or ``openvino`` (the extra ``openvino``), which is faster on
    CPUs and knows ``int8``. It takes the precisions float32, bfloat16 and int8."""
    precision: Precision = "float32"
    """Precision of the trunk; the statistics are always float32 and float64. ``tf32`` differs
    from ``float32`` only on GPUs. ``int8``: quantised on 64 of the normal images."""
    batch: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Images that are embedded and judged together; auto: 32 up to 256x256 pixels, of larger ones
    the power of two that has at most as many pixels. A processor's trunk takes 8 at once."""
    roi: Roi = None
    """Region of interest: the part of the picture that is judged. The path or URL of a mask of the
    original's shape (not black: inside), or polygons with corners [x, y] in shares of width and
    height; or a mapping from groups to either: groups that it does not name are judged whole."""
    jpeg: Jpeg = "libjpeg"
    """Decoder of JPEG files: ``libjpeg`` on CPUs; ``reduced``, the same at a half, a quarter or an
    eighth of the size where the resize needs no more, which is faster and has slightly other grey
    levels; or ``nvjpeg`` on the GPUs of the workers, which smooths subsampled colours less. All
    other files are decoded on CPUs."""

    @field_validator("crop", mode="before")
    @classmethod
    def _is_whole_by_default(cls, value: object, info: ValidationInfo) -> object:
        # As if it were written: both ways mean the same model.
        return info.data.get("resize", (1, 1)) if value is None else value

    @model_validator(mode="after")
    def _crop_fits(self) -> ModelConfig:
        (height, width), (y, x) = self.resize, self.crop
        if y > height or x > width:
            raise ValueError(f"crop {y}x{x} is larger than resize {height}x{width}")
        return self

    @model_validator(mode="after")
    def _aligns_on_processors(self) -> ModelConfig:
        if self.align and self.jpeg == "nvjpeg":
            raise ValueError("'align' works on CPUs; set 'jpeg' to libjpeg, or leave 'align' out")
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> ModelConfig:
        if self.engine == "torch" and self.precision == "int8":
            raise ValueError(
                "precision 'int8' needs engine 'openvino'; set 'engine' to openvino, or "
                "'precision' to float32 or bfloat16"
            )
        if self.engine == "openvino" and self.precision in ("tf32", "float16"):
            raise ValueError(
                f"engine 'openvino' has no precision {self.precision!r}; set 'precision' to "
                "float32, bfloat16 or int8, or 'engine' to torch"
            )
        if self.engine == "openvino" and self.jpeg == "nvjpeg":
            raise ValueError(
                "engine 'openvino' works on CPUs; set 'jpeg' to libjpeg, or 'engine' to torch"
            )
        return self

    @property
    def geometry(self) -> InputGeometry:
        """Resize and crop as a value of the core."""
        return InputGeometry(self.resize, self.crop)
