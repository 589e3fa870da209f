"""Four-bit packing and the 64-bit words of deq_scale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.deq_word import parse_quant_param, trans_quant_param
from slimspec.numeric import decode_deq_scale, encode_deq_scale
from slimspec.pack import (
    pack_ascend,
    pack_awq,
    pack_compressed,
    pack_fp4,
    pack_int4,
    unpack_ascend,
    unpack_awq,
    unpack_compressed,
    unpack_int4,
)

from .model import Attributes, Operation, Tensors


def _int4(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"packed": pack_int4(t["q"], a.get("axis", -1))}


def _un_int4(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"q": unpack_int4(t["packed"], a.get("axis", -1))}


def _words(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    pack: Any = {"awq": pack_awq, "ascend": pack_ascend, "compressed": pack_compressed}[a["order"]]
    return {"words": pack(t["codes"])}


def _un_words(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    if a["order"] == "compressed":
        n, m = t["words"].shape
        return {"codes": unpack_compressed(t["words"], (n, 8 * m))}
    return {"codes": {"awq": unpack_awq, "ascend": unpack_ascend}[a["order"]](t["words"])}


def _fp4(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"packed": pack_fp4(t["codes"])}


def _encode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"word": encode_deq_scale(t["scale"])}


def _decode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"scale": decode_deq_scale(t["word"])}


def _trans(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    words = trans_quant_param(t["scale"], t.get("offset"), a.get("round_mode", 0))
    return {"words": words, "hardware_scale": parse_quant_param(words).scale}


def _codes(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    shape = (sizes.get("n", 16), sizes.get("k", 64))
    return {"q": random.randint(-8, 8, shape).astype(np.int8)}, {"axis": -1} | dict(attributes)


def _bytes(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    shape = (sizes.get("n", 16), sizes.get("k", 64))
    q = random.randint(-128, 128, shape).astype(np.int8)
    return {"packed": q}, {"axis": -1} | dict(attributes)


def _scales(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    n = sizes.get("n", 64)
    scale = random.uniform(1e-5, 0.1, n).astype(np.float32)
    offset = random.uniform(-300, 300, n).astype(np.float32)
    return {"scale": scale, "offset": offset}, dict(attributes)


OPERATIONS = (
    Operation(
        "pack_int4", "byte = (q_odd & 15) << 4 | q_even & 15 along an axis", _int4, ("packed",),
        _codes, "pack_int4",
    ),
    Operation(
        "unpack_int4", "even = low nibble, odd = high nibble, both sign-extended", _un_int4, ("q",),
        _bytes, "unpack_int4",
    ),
    Operation("pack_words", "eight codes in an int32 word, in the named order", _words, ("words",)),
    Operation("unpack_words", "the codes of a word, in the named order", _un_words, ("codes",)),
    Operation("pack_fp4", "byte = code[2j] | code[2j + 1] << 4", _fp4, ("packed",)),
    Operation("encode_deq_scale", "word = int64(int32(bits(scale)))", _encode, ("word",)),
    Operation("decode_deq_scale", "scale = float32 of the low 32 bits", _decode, ("scale",)),
    Operation(
        "trans_quant_param", "word = bits & 0xFFFFE000 | 1 << 46 | (offset & 0x1FF) << 37", _trans,
        ("words",), _scales, "trans_quant_param",
    ),
)  # fmt: skip
