"""The checkpoint beside the float model that it was made from (level numeric).

>>> from slimcheck.numeric.sample import choose
>>> choose(["model.layers.0.q", "model.layers.1.q"], "1")
['model.layers.1.q']
"""
