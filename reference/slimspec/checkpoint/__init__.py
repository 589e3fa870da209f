"""Checkpoint directories: a lazy reader that trusts nothing, and a streaming writer.

`open_checkpoint(path)` reads headers and JSON files into a `Checkpoint`; what is wrong with them
becomes `Defect` records, and tensor bytes are mapped when asked. Light to import: no numba, and
ml_dtypes only when a bfloat16 or 8-bit float array is asked for.
"""

from .config import Config, read_config
from .description import Description, metadata_keys, read_description
from .directory import Checkpoint, Part, open_checkpoint
from .errors import CheckpointError, Defect
from .header import Header, read_header
from .index import SafetensorsIndex, read_index
from .jsonfile import Duplicate, JsonFile, read_json
from .listing import FileEntry
from .profile import Detected
from .records import Entry
from .table import Tensor, TensorTable
from .writer import CheckpointWriter

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointWriter",
    "Config",
    "Defect",
    "Description",
    "Detected",
    "Duplicate",
    "Entry",
    "FileEntry",
    "Header",
    "JsonFile",
    "Part",
    "SafetensorsIndex",
    "Tensor",
    "TensorTable",
    "metadata_keys",
    "open_checkpoint",
    "read_config",
    "read_description",
    "read_header",
    "read_index",
    "read_json",
]
