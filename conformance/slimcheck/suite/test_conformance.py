"""With a checkpoint named: one test per requirement."""

from io import StringIO

import pytest
from rich.console import Console

from slimcheck.engine import Result, Status
from slimcheck.plugin import language
from slimcheck.report.terminal import print_group


def test_requirement(slimcheck_result: Result, pytestconfig: pytest.Config) -> None:
    if slimcheck_result.status in (Status.NOT_APPLICABLE, Status.NOT_CHECKED):
        pytest.skip(str(slimcheck_result.status))
    if slimcheck_result.status is Status.WAIVED:
        pytest.skip(f"waived: {slimcheck_result.waived[0][1]}")
    if slimcheck_result.counts:
        text = StringIO()
        for group in slimcheck_result.groups:
            console = Console(file=text, width=100, highlight=False)
            print_group(slimcheck_result, group, console, language(pytestconfig))
        pytest.fail(text.getvalue(), pytrace=False)
