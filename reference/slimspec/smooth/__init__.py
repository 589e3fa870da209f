"""Outlier suppression: smoothing scales, their search, folding, and rotations."""
