"""The commands compress, decompress and inspect --tiles: output, exit codes, one-line errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointWriter, open_checkpoint
from slimspec.cli import main
from slimspec.cli.tiles import Grid, read_grids

CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "torch_dtype": "float16",
}
SHAPES = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (32, 32),
    "self_attn.v_proj": (32, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (64, 32),
    "mlp.up_proj": (64, 32),
    "mlp.down_proj": (32, 64),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with CheckpointWriter(tmp_path / "s", profile="L0", model_quant_type="W8A8S") as writer:
        for layer in (0, 1):
            for module, (n, k) in SHAPES.items():
                name = f"model.layers.{layer}.{module}"
                spread = 90 if module == "mlp.down_proj" else 2  # the wide one is stored raw
                q = np.clip(np.rint(rng.standard_normal((n, k)) * spread), -127, 127)
                scale = np.array([0.1], np.float32)
                writer.write(f"{name}.weight", q.astype(np.int8), "W8A8S")
                writer.write(f"{name}.input_scale", scale, "W8A8S")
                writer.write(f"{name}.input_offset", np.array([3], np.float32), "W8A8S")
                writer.write(f"{name}.quant_bias", np.ones(n, np.int32), "W8A8S")
                writer.write(f"{name}.deq_scale", np.full(n, 950000000), "W8A8S")
        writer.write("model.norm.weight", np.ones(32, np.float16), "FLOAT")
        writer.write("lm_head.weight", np.ones((6, 32), np.float16), "FLOAT")
    (tmp_path / "s" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "s"


def test_there_and_back(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, back = str(tmp_path / "p"), str(tmp_path / "b")
    assert main(["compress", str(source), parts, "--tp", "2", "--names", "mindie"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{parts}: 14 linears as W8A8SC in 2 parts, names mindie-llama; weights ")
    assert "rounded to float16: 14 values of 14 input_scale tensors, by at most 0.00024" in out
    assert main(["decompress", parts, back, "--input-dtype", "float32"]) == 0
    assert capsys.readouterr().out == f"{back}: 14 linears from 2 parts\n"
    first, second = open_checkpoint(source), open_checkpoint(back)
    for name in first.table.names:
        if not name.endswith("input_scale"):
            assert first.raw(name).tobytes() == second.raw(name).tobytes(), name


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["compress", "{s}", "{t}/p", "--tp", "3"], "32 do not divide by 3 ranks|attention heads"),
        (["compress", "{s}", "{s}/no/p"], "no such directory"),
        (["compress", "{t}/missing", "{t}/p"], "missing"),
        (["decompress", "{s}", "{t}/b"], "expected part directories"),
        (["inspect", "--tiles", "{s}"], "no weight is of type W8A8SC or W16A16SC: no tiles"),
        (["inspect", "{s}", "-o", "{t}/x.svg"], "-o FILE: expected --tiles with it"),
    ],
)
def test_bad_input_is_one_line_and_code_4(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    filled = [word.format(s=source, t=tmp_path) for word in arguments]
    assert main(filled) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"slimspec {arguments[0]}: ")
    assert any(part in err for part in text.split("|")), err
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.fixture
def parts(source: Path, tmp_path: Path) -> Path:
    main(["compress", str(source), str(tmp_path / "p"), "--tp", "2"])
    return tmp_path / "p"


def test_grid_has_the_sizes_of_the_index(parts: Path) -> None:
    grids = read_grids(open_checkpoint(parts))
    assert len(grids) == 2 * 2 * 7
    assert {grid.part for grid in grids} == {"part0-of-2", "part1-of-2"}
    assert {grid.layer for grid in grids} == {0, 1}
    one: Grid = next(grid for grid in grids if grid.kind == "mlp.gate_proj")
    assert one.raw.tolist() == [[32 * 32]]  # 32 rows of one part, k = 32
    assert one.compressed.all()
    wide = [grid for grid in grids if grid.kind == "mlp.down_proj"]
    assert not any(grid.compressed.any() for grid in wide)
    assert all((grid.stored == grid.raw).all() for grid in wide)
    for grid in grids:
        weight = open_checkpoint(parts / grid.part).tensor(
            f"model.layers.{grid.layer}.{grid.kind}.weight"
        )
        assert grid.stored.sum() == weight.size


def test_table_counts_raw_tiles(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", "--tiles", str(parts)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["part0-of-2", "mlp.down_proj", "2", "2", "2", "2,048", "2,048", "100.0%"] in rows
    (total,) = [row for row in rows if row[0] == "all"]
    assert total[1:4] == ["28", "28", "4"]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_picture_is_the_same_every_time(
    parts: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the extra docs is not installed")
    made = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.{suffix}"
        assert main(["inspect", "--tiles", str(parts), "-o", str(out)]) == 0
        made.append(out.read_bytes())
    assert made[0] == made[1]
    if suffix == "svg":
        text = made[0].decode()
        assert "stored raw: 4 of 28 tiles" in text
        assert "part1-of-2" in text
        assert "mlp.down_proj" in text
    capsys.readouterr()
    assert main(["inspect", "--tiles", str(parts), "-o", str(out)]) == 4
    assert "exists (overwrite not asked)" in capsys.readouterr().err
    assert main(["inspect", "--tiles", str(parts), "-o", str(out), "--overwrite"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"a.{suffix}", f"b.{suffix}", "p", "s"]
    )


def test_picture_without_matplotlib_says_what_to_install(
    parts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "slimspec.cli.tiles_picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["inspect", "--tiles", str(parts), "-o", str(tmp_path / "x.svg")]) == 4
    assert "a picture needs matplotlib: pip install 'slimspec[docs]'" in capsys.readouterr().err


def test_picture_of_an_unknown_format_is_refused(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--tiles", str(parts), "-o", str(tmp_path / "x.gif")]) == 4
    assert "expected a name ending in .svg, .png or .pdf" in capsys.readouterr().err


def test_broken_index_is_named(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = parts / "part1-of-2"
    name = "model.layers.1.mlp.up_proj"
    checkpoint = open_checkpoint(part)
    row = checkpoint.table.row(checkpoint.table.index(f"{name}.index"))
    (part / row.file).chmod(0o600)
    data = bytearray((part / row.file).read_bytes())
    data[row.begin] = 0
    (part / row.file).write_bytes(data)
    capsys.readouterr()
    assert main(["inspect", "--tiles", str(parts)]) == 4
    assert f"part1-of-2: tensor '{name}': tile 0, bit 0: data-length" in capsys.readouterr().err
