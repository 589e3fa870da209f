"""One small linear worked through every quantization type: numbers, stored bytes and a picture.

>>> from slimspec.teach import work
>>> work("W8A8_DYNAMIC").q.weight.shape
(4, 8)
"""

from .example import Example, types, work
from .text import render

__all__ = ["Example", "render", "types", "work"]
