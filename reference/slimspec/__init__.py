"""The reference: every quantizer, layout and codec of the msModelSlim checkpoint family."""

__version__ = "0.1.0"
