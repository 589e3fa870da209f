"""The golden files are what their generator makes, and what the manifest says."""

import hashlib
import json
from pathlib import Path

from slimspec.data import folder
from slimspec.golden import checkpoint_cases, load_manifest
from slimspec.golden.build import build


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_generator_makes_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path)
    assert files(tmp_path / "checkpoints" / "valid") == files(
        folder("golden") / "checkpoints" / "valid"
    )


def test_manifest_lists_every_file_with_its_hash() -> None:
    stored = files(folder("golden"))
    del stored["manifest.json"]
    listed = {row["path"]: (row["bytes"], row["sha256"]) for row in load_manifest()["files"]}
    assert listed == {
        path: (len(content), hashlib.sha256(content).hexdigest())
        for path, content in stored.items()
    }


def test_json_is_strict() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name, content in files(folder("golden")).items():
        if name.endswith(".json"):
            json.loads(content, parse_constant=refuse)


def test_case_ids_are_unique_and_bases_exist() -> None:
    cases = checkpoint_cases()
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert (folder("golden") / case.base).is_dir()
        assert case.valid == (not case.expected)


def test_every_file_is_small() -> None:
    total = sum(len(content) for content in files(folder("golden")).values())
    assert total < 8_000_000
