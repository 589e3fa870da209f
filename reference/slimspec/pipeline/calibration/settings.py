"""How to calibrate, apart from which linear gets which type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from numpy.typing import DTypeLike

from slimspec.model.numerics import Cpu
from slimspec.observe.activation import MIN_MAX
from slimspec.quantize.affine import Variant
from slimspec.quantize.awq import POINTS
from slimspec.smooth.scales import SMALLEST
from slimspec.sparse.admm import DEFAULT_RATIO
from slimspec.sparse.lowbit import DEFAULTS, LowBitOptions

ANTI_METHODS = ("m1", "m2", "m3", "m4", "m5", "m6")
LOWBIT = "lowbit"  # do_smooth: the smoothing before sparse low-bit weights
V1_METHODS = {  # ours -> the name in the one-click service
    "m1": "smooth_quant",
    "m4": "iter_smooth",
    "m6": "flex_smooth_quant",
    "awq": "awq",
    "flex_awq_ssz": "flex_awq_ssz",
}
V1_KINDS = ("norm-linear", "ov", "up-down", "linear-linear")
V1_ALPHA = {"smooth_quant": 0.5, "iter_smooth": 0.9}  # the others search
V1_TAKES = {  # method of the service -> members of its step that are not for all
    "smooth_quant": ("alpha", "symmetric"),
    "iter_smooth": ("alpha", "symmetric", "scale_min", "subgraphs"),
    "flex_smooth_quant": ("alpha", "beta", "subgraphs"),
    "flex_awq_ssz": ("alpha", "subgraphs", "w_bit"),
    "awq": ("subgraphs", "w_bit", "n_grid"),
}


@dataclass(frozen=True)
class SmoothStep:
    """Smoothing by the one-click service.

    Attributes:
        method: its name there.
        subgraphs: what is smoothed.
        w_bit: of the weights that awq and flex_awq_ssz search for.
        n_grid: powers of mean|x| that awq tries.
        alpha, beta: exponents of inputs and weights; None for the method's own, or to search.
        symmetric: False moves the middle of every channel into biases (norm-linear).
        scale_min: smallest scale (iter_smooth).
        include, exclude: globs over the modules that a scale is divided out of.
        defects: do also what breaks the model, as the tool does; no config asks for it.
    """

    method: str
    subgraphs: tuple[str, ...] = V1_KINDS
    w_bit: int = 8
    n_grid: int = POINTS
    alpha: float | None = None
    beta: float | None = None
    symmetric: bool = True
    scale_min: float = SMALLEST
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    defects: bool = False

    @property
    def anti_method(self) -> str:
        """Our name of the method."""
        return next(ours for ours, theirs in V1_METHODS.items() if theirs == self.method)


@dataclass(frozen=True)
class KeyStep:
    """Smoothing of the keys of a cache by the one-click service.

    Attributes:
        factor: exponent of the largest magnitude.
        include, exclude: globs over attention modules.
    """

    factor: float = 1.0
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class CacheStep:
    """An int8 cache of keys and values (C8) by the one-click service.

    Attributes:
        symmetric: no offset.
        include, exclude: globs over attention modules.
    """

    symmetric: bool = True
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttentionStep:
    """Quantized queries, keys and values (FAQuant) by the one-click service.

    Attributes:
        element: of the quantized values.
        dynamic: roles of q, k, v that are quantized per token at run time.
        include, exclude: globs over attention modules.
        first: before linears get their types.
    """

    element: Literal["int8", "fp8_e4m3"] = "int8"
    dynamic: tuple[str, ...] = ()
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    first: bool = False


@dataclass(frozen=True)
class Settings:
    """The choices of a calibration run.

    Attributes:
        variant: whose run: "v0" is the Calibrator API, "v1" the one-click service.
        act_method: 1 min-max, 2 histogram, 3 one of them by range_parm ("v0").
        aggregation: how "v1" joins the extremes of the batches.
        act_symmetric: activations without an offset.
        anti_method: m1 .. m6, "lowbit" for do_smooth, "" for none.
        exponents: alpha and beta of m6; None searches them.
        w_bit, w_sym: of the weights, for the search of m3.
        cache: quantize keys and values of the cache (C8).
        attention: quantize q, k and v of attention (FAQuant).
        fa_amp: attentions that stay float, those with the widest values.
        attend: "eager" or "fused" attention; None for the one each producer ran.
        cpu: whose sums of bfloat16 products (`slimspec.model.sums`).
        load_dtype: of the loaded model, None for its own.
        lowbit: the weights that do_smooth is searched for.
        smoothing, cache_step, attention_step: more about the steps of "v1"; None where its defaults
            will do.
        key_step: smooth the keys of caches ("v1"); None for none.
        prune_ratio: share of zeros in the weights of W16A16S.
        rotation: size of the blocks of a QuaRot rotation ("v1"), -1 for one block, 0 for none.
        defects: do also what breaks a rotated model with a tied head, and measure without the
            low-rank branches, as the tool does; no config asks for it.
    """

    variant: Variant
    act_method: int = MIN_MAX
    aggregation: Literal["max", "mean"] = "max"
    act_symmetric: bool = False
    anti_method: str = ""
    exponents: tuple[float, float] | None = None
    w_bit: int = 8
    w_sym: bool = True
    cache: bool = False
    attention: bool = False
    fa_amp: int = 0
    attend: Literal["eager", "fused"] | None = None
    cpu: Cpu = "amx"
    load_dtype: DTypeLike | None = None
    lowbit: LowBitOptions = DEFAULTS
    smoothing: SmoothStep | None = None
    cache_step: CacheStep | None = None
    attention_step: AttentionStep | None = None
    key_step: KeyStep | None = None
    prune_ratio: float = DEFAULT_RATIO
    rotation: int = 0
    defects: bool = False

    @property
    def service(self) -> SmoothStep:
        """The smoothing of "v1". Raises: KeyError: a method that it does not have."""
        return self.smoothing or SmoothStep(V1_METHODS[self.anti_method])

    def fuses(self, *, latent: bool) -> bool:
        """True for attention in the steps of the fused kernel: "v1" unless chosen.

        Latent attention is eager in both. Source: msmodelslim model/deepseek_v3/model_adapter.py
        (init_model, attn_implementation).
        """
        own = "fused" if self.variant == "v1" and not latent else "eager"
        return (self.attend or own) == "fused"
