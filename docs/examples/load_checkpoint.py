"""A loader in miniature: it opens every file, and wants every described weight to be stored.

python load_checkpoint.py DIR    ends with 0 if it takes the directory, with 1 and a line if not.
"""

import json
import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open


def load(directory: Path) -> None:
    stored: set[str] = set()
    for path in sorted(directory.rglob("*.safetensors")):
        with safe_open(path, "numpy") as shard:
            stored |= set(shard.keys())
    for path in sorted(directory.rglob("*.json")):
        content = json.loads(path.read_bytes())
        if path.name.startswith("quant_model_description"):
            for name in content:
                if name.endswith(".weight") and name not in stored:
                    raise ValueError(f"{path.name} describes {name}, no file holds it")


if __name__ == "__main__":
    try:
        load(Path(sys.argv[1]))
    except (OSError, ValueError, SafetensorError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
