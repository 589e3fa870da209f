"""Sparse weights: pruning, and the tile codec of W8A8SC and W16A16SC.

Source: facts/sparse_codec.md, facts/math.md 7.
"""

from slimspec.sparse.codec import Compressed, as_bytes, as_float16, compress, decompress
from slimspec.sparse.errors import CODES, StreamDefect, StreamError
from slimspec.sparse.nz import nd_to_nz, nz_to_nd
from slimspec.sparse.plan import TilePlan
from slimspec.sparse.validate import validate

__all__ = [
    "CODES",
    "Compressed",
    "StreamDefect",
    "StreamError",
    "TilePlan",
    "as_bytes",
    "as_float16",
    "compress",
    "decompress",
    "nd_to_nz",
    "nz_to_nd",
    "validate",
]
