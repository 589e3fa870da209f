"""The reference: every quantizer, layout and codec of the msModelSlim checkpoint family."""

from slimspec.kernel_cache import provide as _provide_kernel_cache

__version__ = "0.1.0"

_provide_kernel_cache()
