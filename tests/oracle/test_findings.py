"""What is reported of the producer's directories has an explanation in docs/findings.md."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_finding_is_explained(oracle: Path) -> None:
    script = ROOT / "benchmarks" / "oracle_findings.py"
    spec = importlib.util.spec_from_file_location("oracle_findings", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    judged, found = module.survey(oracle)
    assert judged
    assert module.unexplained(found) == []
    assert module.violations(found) == []
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    for key in found:
        assert f"| [{key}](" in page, "run the command that the page names"
