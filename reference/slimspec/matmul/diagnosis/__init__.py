"""Say which formula somebody's output follows, bit for bit, and for what share."""

from .engine import Diagnosis, Match, Op, explain
from .epilogues import DEQUANTIZE, DEQUANTIZE_PER_TOKEN, REQUANTIZE, TRANS_QUANT_PARAM
from .integers import MATMUL_INT8, PACK_INT4, UNPACK_INT4
from .quantizers import QUANTIZE_DYNAMIC, QUANTIZE_STATIC
from .weights import ANTIQUANT, MATMUL_W4A8

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        MATMUL_INT8,
        PACK_INT4,
        UNPACK_INT4,
        DEQUANTIZE,
        DEQUANTIZE_PER_TOKEN,
        REQUANTIZE,
        TRANS_QUANT_PARAM,
        QUANTIZE_STATIC,
        QUANTIZE_DYNAMIC,
        ANTIQUANT,
        MATMUL_W4A8,
    )
}


def diagnose(op: str | Op, output: object, **inputs: object) -> Diagnosis:
    """Compare an output with every known way to compute the operation.

    Args:
        op: name of the operation (a key of `OPS`), or an `Op`.
        output: what somebody's kernel returned: an array, or a tuple such as (q, scale).
        inputs: arguments of the reference function of the same name.

    Returns:
        Diagnosis: every variant with the share of equal elements, best first; `.verdict()` is a
        sentence.

    Raises:
        ValueError: unknown operation, or an output whose shape or dtype no variant has.
    """
    if isinstance(op, str):
        if op not in OPS:
            raise ValueError(f"op: expected one of {', '.join(OPS)}, found {op!r}")
        op = OPS[op]
    return explain(op, output, inputs)


__all__ = ["OPS", "Diagnosis", "Match", "Op", "diagnose"]
