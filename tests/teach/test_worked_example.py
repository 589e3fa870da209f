"""The worked example: its numbers against hand arithmetic, its pages and pictures against docs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from slimspec import layout, schemes
from slimspec.cli import main
from slimspec.teach import render, types, work
from slimspec.teach.__main__ import pages
from slimspec.teach.example import writers

DOCS = Path(__file__).resolve().parents[2] / "docs" / "types"
EVERY = [(label, profile) for label in types() for profile in writers(label)]


@pytest.mark.parametrize("label", ["W8A8", "W8A8_DYNAMIC", "W8A8_MIX", "W8A16"])
def test_codes_of_int8_are_those_of_rational_arithmetic(label: str) -> None:
    """Scale and quotient are rounded to float32, then to the nearest even integer."""

    def rounded(exact: Fraction) -> Fraction:
        return Fraction(float(np.float32(float(exact))))

    example = work(label)
    for row, codes in zip(example.linear.weight, example.codes, strict=True):
        exact = [Fraction(float(value)) for value in row]
        scale = rounded(max(map(abs, exact)) / 127)
        assert codes.tolist() == [round(rounded(value / scale)) for value in exact]


def test_pairs_of_rows_share_a_byte_in_w4a8() -> None:
    example = work("W4A8_DYNAMIC", "A1")
    low, high = example.codes[0::2].astype(int) % 16, example.codes[1::2].astype(int) % 16
    assert (example.stored["weight"].view(np.uint8) == low + 16 * high).all()


@pytest.mark.parametrize(("label", "profile"), EVERY)
@pytest.mark.parametrize("dtype", ["", "float16", "bfloat16"])
def test_stored_tensors_read_back_to_what_the_page_shows(
    label: str, profile: str, dtype: str
) -> None:
    if dtype == "bfloat16" and label == "W16A16SC":
        pytest.skip("tiles hold float16 only")
    example = work(label, profile, dtype)
    read = schemes.get(label).from_tensors(example.stored, profile)
    assert (read.weight == example.q.weight).all()
    if read.deq_scale is None:  # else its scale is rounded twice
        assert (schemes.get(label).dequantize(read) == example.restored).all()
    rules = layout.rules(label, profile)
    assert layout.bind(rules, {s: a.shape for s, a in example.stored.items()}).ok
    page = render(example)
    for suffix, array in example.stored.items():
        assert f"| `{suffix}` | " in page
        assert array.tobytes()[:16].hex(" ") in page


def test_every_type_with_a_scheme_has_a_page() -> None:
    assert set(types()) == schemes.schemes().keys() - {"FLOAT"}


def test_pages_of_the_docs_are_those_of_the_command() -> None:
    made = pages()
    assert {path.name for path in DOCS.glob("*.md")} == made.keys()
    for name, text in made.items():
        assert (DOCS / name).read_text("utf-8") == text, "run: python -m slimspec.teach"


def test_pictures_that_pages_show_are_there() -> None:
    shown = {line.split("(")[-1][:-1] for text in pages().values()
             for line in text.splitlines() if line.startswith("![")}  # fmt: skip
    assert shown == {path.name for path in DOCS.glob("*.svg")}
    assert len(shown) > 10


def test_command_prints_the_page_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain"]) == 0
    assert "W4A8_DYNAMIC" in capsys.readouterr().out
    assert main(["explain", "w8a16", "--profile", "L0"]) == 0
    assert capsys.readouterr().out == render(work("W8A16", "L0"))
    pytest.importorskip("matplotlib", reason="the extra docs is not installed")
    out = tmp_path / "a.svg"
    assert main(["explain", "W8A16", "-o", str(out)]) == 0
    first = out.read_bytes()
    assert main(["explain", "W8A16", "-o", str(out)]) == 4
    assert "overwrite not asked" in capsys.readouterr().err
    assert main(["explain", "W8A16", "-o", str(out), "--overwrite"]) == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["W9A9"], "expected one of W16A16S"),
        (["FLOAT"], "found FLOAT"),
        (["\x1b[31mx"], "found \\x1b[31mx"),
        (["W8A8S", "--profile", "A1"], "expected a profile of L0, A0; found A1"),
        (["W8A8", "--dtype", "int8"], "expected one of float32"),
        (["W8A8", "-o", "a.gif"], "expected a name ending in"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 4
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 300 + ".svg", "x" * 245 + ".svg", "no/x.svg", "link.svg"])
def test_picture_that_cannot_be_there_is_one_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "link.svg").symlink_to(tmp_path / "nowhere")
    possible = len(name) < 256 and "/" not in name and name != "link.svg"
    assert main(["explain", "W8A8", "-o", str(tmp_path / name)]) == (0 if possible else 4)
    assert len(capsys.readouterr().err.splitlines()) == (not possible)
    assert {path.name for path in tmp_path.iterdir()} == {"link.svg", *([name] if possible else [])}
