"""Ranges of activations from data; histograms load Numba only when they are used."""

from .activation import activation_range, choose_method, token_range
from .sensitivity import range_parm

__all__ = ["activation_range", "choose_method", "range_parm", "token_range"]
