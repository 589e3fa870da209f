"""Stored forms of weights: blocks with a shared exponent, AWQ words, fractals."""

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec import schemes
from slimspec.pack import AwqWeight, W4A16Weight, awq_to_ascend, awq_to_w4a16, w4a16_to_awq
from slimspec.pack.fp4 import unpack_fp4
from slimspec.quantize.mx_blocks import MxWeight
from slimspec.quantize.mxfp4 import mxfp4_tensors, quantize_mxfp4_dualscale
from slimspec.quantize.mxfp8 import mxfp8_tensors
from slimspec.sparse import nz_to_nd

from .model import Attributes, Operation, Tensors

_LABELS = {"mxfp8": "W8A8_MXFP8", "mxfp4": "W4A4_MXFP4"}


def _encode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = MxWeight(t["elements"], t["exponent"])
    weight, scale = mxfp8_tensors(made) if a["format"] == "mxfp8" else mxfp4_tensors(*made)
    return {"weight": weight.view(np.uint8), "weight_scale": scale}


def _decode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    stored = t["weight"]
    mxfp8 = a["format"] == "mxfp8"
    codes = stored.view(ml_dtypes.float8_e4m3fn) if mxfp8 else unpack_fp4(stored)
    label = _LABELS[a["format"]]
    record = schemes.QuantizedLinear(label, codes, weight_scale=t["weight_scale"], name="w")
    return {"w": schemes.get(label).dequantize(record)}


def _dualscale(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return quantize_mxfp4_dualscale(t["w"], a["dual_block"])._asdict()


def _awq(t: Tensors) -> AwqWeight:
    return AwqWeight(t["qweight"], t["qzeros"], t["scales"])


def _to_w4a16(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return awq_to_w4a16(_awq(t))._asdict()


def _to_awq(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    stored = W4A16Weight(t["weight"], t["weight_scale"], t["weight_offset"])
    return w4a16_to_awq(stored)._asdict()


def _to_ascend(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = awq_to_ascend(_awq(t))
    return {"qweight_out": made.qweight, "qzeros_out": made.qzeros}


def _nd(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"weight": nz_to_nd(t["nz"], a["n"], a["k"])}


OPERATIONS = (
    Operation(
        "encode_mx", "element codes, and exponent + 127 as a byte (NaN: 255)", _encode,
        ("weight", "weight_scale"),
    ),
    Operation("dequantize_mx", "w = element·2^(weight_scale - 127), blocks of 32", _decode, ("w",)),
    Operation(
        "quantize_mx_dualscale", "dual = amax(large block)/6, then MXFP4 of w/dual", _dualscale,
        ("elements", "exponent", "dual_scale"),
    ),
    Operation(
        "awq_to_w4a16", "[k, n/8] words of codes -> [n/2, k] bytes of code - 8, offset = z - 8",
        _to_w4a16, ("weight", "weight_scale", "weight_offset"),
    ),
    Operation(
        "w4a16_to_awq", "[n/2, k] bytes -> [k, n/8] words in the order 0 2 4 6 1 3 5 7", _to_awq,
        ("qweight", "qzeros", "scales"),
    ),
    Operation(
        "awq_to_ascend", "words in sequence with flipped top bits, zeros 8 - z", _to_ascend,
        ("qweight_out", "qzeros_out"),
    ),
    Operation("nz_to_nd", "[k1, n1, 16, 32] -> [n, k], padding dropped", _nd, ("weight",)),
)  # fmt: skip
