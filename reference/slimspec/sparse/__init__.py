"""Sparse weights: pruning, and the tile codec of W8A8SC and W16A16SC.

Source: facts/sparse_codec.md, facts/math.md 7.
"""

from slimspec.sparse.admm import InputStatistics, prune_admm, w16a16s_weight
from slimspec.sparse.codec import Compressed, as_bytes, as_float16, compress, decompress
from slimspec.sparse.cosparse import quantize_cosparse
from slimspec.sparse.errors import CODES, StreamDefect, StreamError
from slimspec.sparse.lowbit import LowBitOptions, quantize_lowbit, w8a8s_weight
from slimspec.sparse.nz import nd_to_nz, nz_to_nd
from slimspec.sparse.plan import TilePlan
from slimspec.sparse.split import SparseWeight
from slimspec.sparse.topk import prune_smallest
from slimspec.sparse.validate import validate

__all__ = [
    "CODES",
    "Compressed",
    "InputStatistics",
    "LowBitOptions",
    "SparseWeight",
    "StreamDefect",
    "StreamError",
    "TilePlan",
    "as_bytes",
    "as_float16",
    "compress",
    "decompress",
    "nd_to_nz",
    "nz_to_nd",
    "prune_admm",
    "prune_smallest",
    "quantize_cosparse",
    "quantize_lowbit",
    "validate",
    "w8a8s_weight",
    "w16a16s_weight",
]
