"""The pytest plugin of the judge: options, one test per requirement, the report at the end.

The options carry the prefix `--slimcheck-`, so that they cannot collide with another plugin's.
In the source tree they have short names too, for `pytest conformance --checkpoint DIR`.

A verdict is printed when every requirement has run, and only then.
"""

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slimcheck.plugin_guard import in_source_tree, inside, refuse_its_code

if TYPE_CHECKING:
    from slimcheck.report import Report
    from slimspec.golden import VectorCase

_SUITE = Path(__file__).parent / "suite"
_REPORT: pytest.StashKey["Report"] = pytest.StashKey()
_RAN: pytest.StashKey["_Ran"] = pytest.StashKey()
_TEST = "::test_requirement["
_NO_CHECKPOINT = "no checkpoint was named: --checkpoint DIR"
_PYTESTS_OWN = ("ignore", "strict")  # no short names for these
_LISTS = {
    "consumer": "hold the directory to what this engine needs (repeatable)",
    "select": "only requirements whose id matches GLOB (repeatable)",
    "ignore": "not the requirements whose id matches GLOB (repeatable)",
    "report": "also write FORM=FILE: jsonl, junit, sarif, markdown, html, numeric (repeatable)",
    "only-shards": "read only the weights in files that match GLOB (repeatable)",
    "waive": "accept the findings that the lines `ID PATTERN REASON` of FILE name (repeatable)",
}
_VALUES = {
    "checkpoint": "directory to judge (default: the embedded golden checkpoints)",
    "level": "layout, values (default) or numeric",
    "float-model": "directory of the float model, for level numeric",
    "sample": "linears to compare with it: all (default), 5%% of each layer, or a number",
    "producer": "judge as this producer profile (default: detected)",
    "tp": "number of tensor-parallel ranks that will serve it",
    "soc": "chip that will serve it: 910B, 910C, 310P, 950",
    "lang": "en or zh: language of what people read (default: en)",
    "tensor": "only findings about tensors whose name matches GLOB",
}


def add_options(parser: pytest.Parser, prefix: str, leave_out: tuple[str, ...] = ()) -> None:
    """Register the options as `--{prefix}NAME`."""
    group = parser.getgroup("slimcheck", "conformance of a quantized checkpoint")
    for name, text in _VALUES.items():
        if name not in leave_out:
            group.addoption(f"--{prefix}{name}", dest=_dest(name), default=None, help=text)
    for name, text in _LISTS.items():
        if name not in leave_out:
            group.addoption(
                f"--{prefix}{name}", dest=_dest(name), action="append", default=[], help=text
            )
    if "strict" not in leave_out:
        group.addoption(
            f"--{prefix}strict",
            dest=_dest("strict"),
            action="store_true",
            help="a violated SHOULD fails too",
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser, "slimcheck-")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "golden(op, origin=None, where={}): run the test once for each of these golden vectors, "
        "which come as the argument golden_vector",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """Know the short names before pytest takes their values for paths; then look at those."""
    if in_source_tree(early_config):
        add_options(parser, "", leave_out=_PYTESTS_OWN)
        known = parser.parse_known_args(args, namespace=copy.copy(early_config.option))
        known.confcutdir = early_config.known_args_namespace.confcutdir
        early_config.known_args_namespace = known
    directory = getattr(early_config.known_args_namespace, _dest("checkpoint"), None)
    if directory is not None:
        refuse_its_code(early_config, early_config.invocation_params.dir / directory)


class _Ran:
    """The requirements whose tests have run in this session."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _TEST in report.nodeid:
            self.ids.add(report.nodeid.partition(_TEST)[2].removesuffix("]"))


def pytest_sessionstart(session: pytest.Session) -> None:
    directory = _option(session.config, "checkpoint")
    if directory is None:
        return
    from slimcheck.run import RunError, check_requests, run

    language(session.config)
    option = session.config.getoption
    session.config.stash[_RAN] = _Ran()
    session.config.pluginmanager.register(session.config.stash[_RAN])
    try:
        check_requests(option(_dest("report")), directory)
        session.config.stash[_REPORT] = run(
            directory,
            level=_option(session.config, "level") or "values",
            producer=_option(session.config, "producer"),
            consumers=option(_dest("consumer")),
            select=option(_dest("select")),
            ignore=option(_dest("ignore")),
            tensor=_option(session.config, "tensor"),
            strict=option(_dest("strict")),
            only_shards=option(_dest("only-shards")),
            float_model=_option(session.config, "float-model"),
            sample=_option(session.config, "sample") or "all",
            tp=_tp(session.config),
            soc=_option(session.config, "soc") or "",
            waive=option(_dest("waive")),
        )
    except RunError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the suite's two files only the one that has work is collected; of the judged none."""
    directory = _option(config, "checkpoint")
    if directory is not None and inside(collection_path, config.invocation_params.dir / directory):
        return True
    if collection_path.parent != _SUITE:
        return None
    unused = "test_golden.py" if _REPORT in config.stash else "test_conformance.py"
    return True if collection_path.name == unused else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "slimcheck_result" in metafunc.fixturenames:
        report = metafunc.config.stash.get(_REPORT, None)
        if report is None:
            nothing = pytest.param(None, marks=pytest.mark.skip(reason=_NO_CHECKPOINT), id="none")
            metafunc.parametrize("slimcheck_result", [nothing])
        else:
            ids = [r.requirement.id for r in report.results]
            metafunc.parametrize("slimcheck_result", report.results, ids=ids)
    if "golden_case" in metafunc.fixturenames:
        from slimspec.golden import checkpoint_cases

        cases = checkpoint_cases()
        metafunc.parametrize("golden_case", cases, ids=[case.id for case in cases])
    if "golden_vector" in metafunc.fixturenames:
        vectors = _marked_vectors(metafunc)
        metafunc.parametrize("golden_vector", vectors, ids=[vector.id for vector in vectors])


def _marked_vectors(metafunc: pytest.Metafunc) -> list["VectorCase"]:
    """The vectors that the marks `golden` of a test ask for."""
    from slimspec.golden import cases

    marks = list(metafunc.definition.iter_markers("golden"))
    if not marks:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid}: golden_vector needs @pytest.mark.golden(op=...)"
        )
    try:
        return [vector for mark in marks for vector in cases(*mark.args, **mark.kwargs)]
    except (TypeError, ValueError) as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop where a checkpoint is named and the suite that judges it is not collected."""
    if _REPORT in config.stash and not any(_TEST in item.nodeid for item in items):
        del config.stash[_REPORT]
        raise pytest.UsageError(
            "a checkpoint is named, but the suite that judges it is not collected: "
            "run `pytest conformance --checkpoint DIR`, "
            "or `pytest --pyargs slimcheck.suite --slimcheck-checkpoint=DIR`"
        )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    report = session.config.stash.get(_REPORT, None)
    items = getattr(session, "items", [])
    if report is None:
        if exitstatus == pytest.ExitCode.OK and items and all(_is_placeholder(i) for i in items):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        return
    from slimcheck.run import RunError, write_reports

    if exitstatus == pytest.ExitCode.OK and not session.config.option.collectonly:
        session.exitstatus = _exit_code(report, session.config.stash[_RAN].ids)
    try:
        write_reports(report, session.config.getoption(_dest("report")), language(session.config))
    except RunError as error:
        raise pytest.UsageError(str(error)) from None


def _exit_code(report: "Report", ran: set[str]) -> int:
    """The exit code of a session in which no test failed."""
    from slimcheck.engine import Status

    if _is_whole(report, ran):
        return int(report.exit_code)
    skipped = (Status.NOT_APPLICABLE, Status.NOT_CHECKED)
    if all(r.status in skipped for r in report.results if r.requirement.id in ran):
        return pytest.ExitCode.NO_TESTS_COLLECTED
    return pytest.ExitCode.OK


def _is_whole(report: "Report", ran: set[str]) -> bool:
    return all(result.requirement.id in ran for result in report.results)


def _is_placeholder(item: pytest.Item) -> bool:
    return item.nodeid.endswith(f"{_TEST}none]")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    report = config.stash.get(_REPORT, None)
    if report is None:
        return
    ran = config.stash[_RAN].ids
    if not _is_whole(report, ran):
        terminalreporter.section("slimcheck")
        terminalreporter.write_line(
            f"{len(ran)} of {len(report.results)} requirements ran: no verdict"
        )
        return
    from io import StringIO

    from rich.console import Console

    from slimcheck.report.terminal import print_notes

    text = StringIO()
    print_notes(report, Console(file=text, width=100, highlight=False), language(config))
    terminalreporter.section("slimcheck")
    terminalreporter.write(text.getvalue())


def _dest(name: str) -> str:
    return f"slimcheck_{name}"


def language(config: pytest.Config) -> str:
    """The language that was asked for.

    Raises:
        pytest.UsageError: there is no such language.
    """
    from slimcheck.report.lang import EN, LANGUAGES

    lang = _option(config, "lang") or EN
    if lang not in LANGUAGES:
        raise pytest.UsageError(f"--lang {lang}: expected {' or '.join(LANGUAGES)}")
    return lang


def _tp(config: pytest.Config) -> int | None:
    value = _option(config, "tp")
    if value is not None and not re.fullmatch(r"[0-9]{1,9}", value):
        raise pytest.UsageError(f"--tp {value}: expected a number of ranks")
    return None if value is None else int(value)


def _option(config: pytest.Config, name: str) -> str | None:
    value: str | None = config.getoption(_dest(name))
    return value
