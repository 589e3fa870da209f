"""The scheme: what every quantization type does to one linear, and the register of all of them.

    float linear -> quantize -> QuantizedLinear -> tensors -> files
    files -> from_tensors -> QuantizedLinear -> dequantize -> float weight, forward -> y

Which tensors exist in a producer profile, and with which dtype, is read from `schemas/layouts`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec import layout
from slimspec.layout import TensorRule
from slimspec.numeric import as_float32
from slimspec.numeric.deq_word import decode_deq_scale
from slimspec.quantize.affine import Variant, dequantize_rows

from .loading import load_all
from .records import InputParams, Linear, Options, QuantizedLinear
from .store import encode
from .weights import METHODS, integer_weight


class Scheme(ABC):
    """One quantization type: subclasses set the class attributes and override what differs.

    `bits` is the width of the weight; `takes` names the options beside `variant` and `threads`
    that the type has, every other option is refused when it is set, `methods` the values of
    `method`, `from_inputs` further ones that need the inputs of the linear (`assemble` takes what
    they make); n is a multiple of `row_multiple`.
    """

    label: str
    bits: int = 8
    row_multiple: int = 1
    takes: frozenset[str] = frozenset()
    methods: tuple[str, ...] = METHODS
    from_inputs: tuple[str, ...] = ()

    @property
    def core(self) -> Scheme:
        """The scheme that makes the integers: itself, or what a wrapper wraps."""
        return self

    def quantize(
        self,
        linear: Linear,
        *,
        variant: Variant,
        group_size: int = 0,
        symmetric: bool = True,
        per_tensor: bool = False,
        activation_range: tuple[NDArray, NDArray] | None = None,
        activation_symmetric: bool = False,
        input_params: InputParams | None = None,
        method: str = "minmax",
        error_dtype: DTypeLike | None = None,
        dual_block: int = 0,
        threads: int = 1,
    ) -> QuantizedLinear:
        """Quantize one float linear from its weight alone, and the input range for static types.

        Args:
            variant: "v0" (profiles L0, A0) or "v1" (A1, MF): they differ in the last bit.
            group_size: columns per group; 0 gives one scale per row.
            symmetric: weights without an offset.
            per_tensor: one weight scale for the whole matrix (mm_tensor).
            activation_range, activation_symmetric: lo, hi of the input, for static types.
            input_params: scale and offset of the input instead of a range.
            method: how the integers of a row, or the exponents of an MX type, are found.
            error_dtype: of the errors that decide with method ssz: the dtype of the activations
                that pass while the weight is made, float32 where none do; None for the dtype of
                the weight with an input range, else float32.
            dual_block: columns of a large block in the dual-scale MX type.
            threads: never changes a bit.
        Raises: ValueError for an option that the type does not have, NaN or infinity, or a group
            size that does not divide k.
        """
        options = Options(
            variant,
            group_size,
            symmetric,
            per_tensor,
            activation_range,
            activation_symmetric,
            input_params,
            method,
            error_dtype,
            dual_block,
            threads,
        )
        self._refuse(options)
        return self.produce(linear, options)

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Return the record with the integers of `options.method`; options have been checked."""
        return self.assemble(linear, integer_weight(linear, self.bits, options), options)

    def assemble(self, linear: Linear, weight: Any, options: Options) -> QuantizedLinear:
        """Return the record for a weight from any solver: an `IntegerWeight`, or what the type has.

        Types with more tensors derive them here.
        """
        return QuantizedLinear(
            self.label,
            weight.q,
            weight_scale=weight.scale,
            weight_offset=weight.offset,
            bias=linear.bias,
            name=linear.name,
        )

    @abstractmethod
    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return ŵ = (q - offset) · scale in float32, [n, k], from the stored scales."""
        scale = as_float32(q.need("weight_scale"))
        return dequantize_rows(q.weight, scale, as_float32(q.need("weight_offset")))

    def tensors(self, q: QuantizedLinear, profile: str, model_dtype: str) -> dict[str, NDArray]:
        """Return suffix -> array: exactly the tensors that a producer profile writes.

        Args: profile "L0", "A0", "A1" or "MF"; model_dtype the safetensors tag of the float model.
        Raises: LayoutError if the profile does not write this type; ValueError if a required tensor
            is missing.
        """
        written = {}
        for suffix, rule in layout.rules(self.label, profile).items():
            absent = getattr(q, suffix) is None
            if rule.presence == "forbidden" or (absent and rule.presence == "optional"):
                continue
            written[suffix] = encode(self.pack(q, suffix, rule), suffix, rule, model_dtype)
        return written

    def from_tensors(
        self, tensors: Mapping[str, NDArray], profile: str, name: str = "linear"
    ) -> QuantizedLinear:
        """Read the tensors of one linear back; suffixes that the type does not have are ignored.

        Raises: ValueError naming a required tensor that is missing.
        """
        values = {}
        for suffix, rule in layout.rules(self.label, profile).items():
            if suffix not in tensors:
                if rule.presence == "required":
                    raise ValueError(f"{name}: {self.label} needs {suffix} in profile {profile}")
                continue
            array = tensors[suffix]
            if suffix == "weight":
                array = self.unpack(array, tensors, rule)
            elif suffix == "deq_scale" and array.dtype.kind == "i":
                array = decode_deq_scale(array)
            values[suffix] = array
        return QuantizedLinear(self.label, name=name, **values)

    def pack(self, q: QuantizedLinear, suffix: str, rule: TensorRule) -> NDArray:
        """Return the array of one suffix as it is stored; int4 types override it."""
        return q.need(suffix)

    def unpack(self, weight: NDArray, tensors: Mapping[str, NDArray], rule: TensorRule) -> NDArray:
        """Undo `pack` for the weight."""
        return weight

    def _refuse(self, options: Options) -> None:
        default = Options(options.variant, threads=options.threads)
        known = self.takes | ({"error_dtype"} if "ssz" in self.methods else set())
        for option in vars(default).keys() - known:
            if getattr(options, option) != getattr(default, option):
                raise ValueError(f"{self.label} does not take {option}={getattr(options, option)}")


_REGISTER: dict[str, Scheme] = {}
_WRAPPERS: dict[str, Callable[[Scheme, str], Scheme]] = {}

WrapperType = TypeVar("WrapperType", bound=Callable[[Scheme, str], Scheme])


def register(scheme: type[Scheme]) -> type[Scheme]:
    """Add a scheme under its label (class decorator). Raises: ValueError for a second one."""
    if scheme.label in _REGISTER:
        raise ValueError(f"two schemes are labelled {scheme.label!r}")
    _REGISTER[scheme.label] = scheme()
    return scheme


def schemes() -> Mapping[str, Scheme]:
    """Return label -> scheme, of all."""
    load_all()
    return MappingProxyType(_REGISTER)


def register_wrapper(name: str) -> Callable[[WrapperType], WrapperType]:
    """Add what makes a scheme out of another one, under the name of its derivation."""

    def add(wrapper: WrapperType) -> WrapperType:
        if name in _WRAPPERS:
            raise ValueError(f"two wrappers are named {name!r}")
        _WRAPPERS[name] = wrapper
        return wrapper

    return add


def get(label: str) -> Scheme:
    """Return the scheme of a label, wrapped if the label is a derived one.

    Raises: ValueError for a label without a scheme, or of a type that cannot be read (NF4).
    """
    load_all()
    if label in _REGISTER:
        return _REGISTER[label]
    for name, derivation in layout.derivations().items():
        base = derivation.base(label)
        if base in _REGISTER and name in _WRAPPERS:
            return _WRAPPERS[name](_REGISTER[base], label)
    if label in layout.types() and layout.load(label).rejected:
        raise ValueError(f"{label} is refused. {layout.load(label).note}")
    known = ", ".join(sorted(_REGISTER))
    raise ValueError(f"no scheme for label {label!r}, only for {known}")
