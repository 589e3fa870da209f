"""DEQ: how deq_scale is encoded."""

from collections.abc import Iterator

import numpy as np

from slimcheck.context import Context, ModuleClass
from slimcheck.elements import first, number, wrong_elements
from slimcheck.findings import Finding
from slimcheck.layouts import types_of
from slimcheck.registry import rule, value_rule
from slimcheck.scales import IMPLAUSIBLE, bare_zeros, by_number
from slimcheck.values.modules import Module
from slimspec.numeric.deq_word import decode_deq_scale, encode_deq_scale

_OTHER = {"I64": "F32", "F32": "I64"}
_KIND = {"I64": "int64", "F32": "float32"}


@value_rule("DEQ-001")
def upper_half_is_empty(ck: Context, module: Module) -> Iterator[Finding]:
    if module.deq_scale is None or module.array("deq_scale").dtype != np.int64:
        return
    words = module.array("deq_scale")
    wrong = words != encode_deq_scale(decode_deq_scale(words))  # a negative scale: W8A8-010
    note = ""
    if wrong.any() and (words[wrong] >> 46 == 1).all():
        note = "bit 46 is set, as npu_trans_quant_param does for the device"
    expected = "float32 bits in the low half, zeros above"
    yield from wrong_elements("DEQ-001", module, "deq_scale", wrong, expected, note=note)


@rule("DEQ-002")
def encoding_goes_with_the_model_dtype(ck: Context) -> Iterator[Finding]:
    """Where config.json contradicts the weights, that is CFG-008's."""
    if ck.root.model_dtype_conflict or ck.checkpoint.model_dtype_conflict:
        return
    dtype = ck.root.model_dtype or ck.model_dtype
    wanted = {"BF16": "F32", "F16": "I64", "F32": "I64"}.get(dtype or "")
    for cls in ck.of(*types_of("DEQ-002")) if wanted else ():
        if wanted and _stored(cls) == _OTHER[wanted]:
            yield _encoding(ck, "DEQ-002", cls, f"{wanted}, because the model is {dtype}")


@rule("DEQ-003")
def compressed_encoding_is_int64(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("DEQ-003")):
        if _stored(cls) == "F32":
            yield _encoding(ck, "DEQ-003", cls, "I64")


@rule("DEQ-004")
def adapter_reports_the_dtype(ck: Context) -> Iterator[Finding]:
    """All linears in I64: the exporter took the model for float16 (a single one: DEQ-002)."""
    static = [cls for cls in ck.of(*types_of("DEQ-004")) if _stored(cls)]
    if ck.model_dtype == "BF16" and all(_stored(cls) == "I64" for cls in static):
        for cls in static:
            yield _encoding(ck, "DEQ-004", cls, "F32, because the float tensors are BF16")


@rule("DEQ-005")
def mindie_format_is_not_for_vllm(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("DEQ-005")):
        if ck.model_dtype == "F16" and _stored(cls) == "F32":
            yield _encoding(ck, "DEQ-005", cls, "I64, which vllm-ascend copies for a F16 model")


@value_rule("DEQ-006")
def decoded_scale_is_plausible(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.deq_scale
    if scale is None:
        return
    if by_number(module):
        wrong, note = bare_zeros(module, scale), "all are 0: cast by value, not by bits"
    else:
        wrong, note = np.isfinite(scale) & (scale >= IMPLAUSIBLE), ""
        note = _bits_of(scale[first(wrong)]) if wrong.any() else ""
    expected = "decoded by bits, a positive number below 1"
    yield from wrong_elements(
        "DEQ-006", module, "deq_scale", wrong, expected, kind="implausible", values=scale, note=note
    )


def _bits_of(value: np.float32) -> str:
    """Recognise the number that the bits of a scale make when they are cast by value."""
    if not 2**23 <= value < 2**31:
        return ""
    scale = decode_deq_scale(np.array([value]).astype(np.int64))[0]
    return f"the bits of {number(scale)}, taken as a number" if 0 < scale < 1 else ""


def _stored(cls: ModuleClass) -> str | None:
    spec = cls.tensors.get("deq_scale")
    return spec.dtype if spec else None


def _encoding(ck: Context, requirement: str, cls: ModuleClass, expected: str) -> Finding:
    names, stored = cls.names("deq_scale"), _stored(cls) or ""
    return Finding(
        requirement, _KIND.get(stored, "dtype"), f"dtype {stored}", expected, names,
        ck.one_file(names),
    )  # fmt: skip
