"""The conformance suite that pytest runs: `pytest --pyargs slimcheck.suite`."""
