"""Float models in NumPy: a decoder and an encoder that show the input of every linear.

Runs calibration text through a checkpoint without torch, layer by layer, with the roundings of the
model dtype. Importing this package loads no numba and no tokenizer.
"""

from .bert import Encoder
from .cache import KVCache
from .config import Architecture, Experts, Latent, read_architecture
from .decoder import Decoder, Layer
from .loader import FloatLinear, Weights
from .mtp import following_tokens, rolled_positions
from .numerics import Numerics
from .rope import Rope
from .scope import Linear, Observe, Scope, States
from .tokenizer import Tokenizer, open_tokenizer

__all__ = [
    "Architecture",
    "Decoder",
    "Encoder",
    "Experts",
    "FloatLinear",
    "KVCache",
    "Latent",
    "Layer",
    "Linear",
    "Numerics",
    "Observe",
    "Rope",
    "Scope",
    "States",
    "Tokenizer",
    "Weights",
    "following_tokens",
    "open_tokenizer",
    "read_architecture",
    "rolled_positions",
]
