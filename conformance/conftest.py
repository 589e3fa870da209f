"""Short option names for `pytest conformance --checkpoint DIR`.

`--ignore` and `--strict` are pytest's own; here they are `--slimcheck-ignore` and
`--slimcheck-strict`.
"""

import pytest

from slimcheck.plugin import add_options


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser, "", leave_out=("ignore", "strict"))
