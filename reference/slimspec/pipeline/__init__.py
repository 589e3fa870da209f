"""Whole directories: float to quantized and back, one linear in memory at a time."""
