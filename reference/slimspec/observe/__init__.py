"""Ranges of activations and weights from data; histograms load Numba only when they are used."""
