"""Quantizers: affine parameters and codes, and the weight solvers."""
