"""One report, several forms: terminal, JSONL, JUnit."""

from slimcheck.report.model import ExitCode, Report, build

__all__ = ["ExitCode", "Report", "build"]
