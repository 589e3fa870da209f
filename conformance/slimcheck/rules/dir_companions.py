"""DIR: whether the companions of the weights belong to them: Python files and the tokenizer."""

import re
from collections.abc import Iterator
from typing import Any

from slimcheck.context import Context
from slimcheck.described import as_count
from slimcheck.findings import Finding
from slimcheck.registry import ROOT, rule
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.jsonfile import JsonFile, read_json
from slimspec.layout import layer_names

_CONFIG, _TOKENIZER, _SETTINGS = "config.json", "tokenizer.json", "tokenizer_config.json"
_GENERATION = "generation_config.json"
_CLASS = re.compile(r"([A-Za-z_]\w*)\.[A-Za-z_]\w*", re.ASCII)  # module.Class
_REMOTE = "--"  # repository--module.Class
_BROKEN = frozenset(
    {"json-syntax", "json-encoding", "empty-file", "lfs-pointer", "not-a-file", "unreadable"}
)


@rule("DIR-025", on=ROOT)
def files_of_auto_map_exist(ck: Context) -> Iterator[Finding]:
    names = {entry.name for entry in ck.checkpoint.files}
    config = ck.checkpoint.config
    for file, members in {
        _CONFIG: config and config.value,
        _SETTINGS: _json(ck, _SETTINGS),
    }.items():
        for reference in _references(members):
            match = _CLASS.fullmatch(reference)
            if match is None:
                found = f"auto_map {clip(reference, 80)!r}"
                yield Finding("DIR-025", "form", found, "MODULE.CLASS", file=file)
            elif f"{match[1]}.py" not in names:
                names.add(f"{match[1]}.py")  # once is enough
                found = f"auto_map {clip(reference, 80)!r}, no {clip(match[1], 80)}.py"
                yield Finding("DIR-025", "absent", found, "that file beside it", file=file)


def _references(members: Any) -> Iterator[str]:
    """What auto_map names of this directory: strings, or pairs of a slow and a fast class."""
    named = members.get("auto_map") if isinstance(members, dict) else None
    for value in named.values() if isinstance(named, dict) else ():
        for reference in value if isinstance(value, list) else [value]:
            if isinstance(reference, str) and _REMOTE not in reference:
                yield reference


def _json(ck: Context, name: str) -> Any:
    """The value of a JSON file of the directory; None if it is not there or cannot be read."""
    file = _read(ck, name)
    return file.value if file else None


def _read(ck: Context, name: str) -> JsonFile | None:
    if all(entry.name != name or entry.is_directory for entry in ck.checkpoint.files):
        return None
    return read_json(ck.checkpoint.path / name)


@rule("DIR-026", on=ROOT)
def tokenizer_fits_the_model(ck: Context) -> Iterator[Finding]:
    files = {name: _read(ck, name) for name in (_TOKENIZER, _SETTINGS)}
    for name, read in files.items():
        for defect in read.defects if read else ():
            if defect.code in _BROKEN:
                yield Finding("DIR-026", defect.code, defect.found, defect.expected, file=name)
    file, settings = files[_TOKENIZER], files[_SETTINGS]
    if file is None:
        return
    vocabulary, rows = _vocabulary(file.value), _rows(ck)
    if not vocabulary:
        return
    if rows is not None and max(vocabulary) >= rows:
        found = f"a vocabulary up to id {clip(max(vocabulary), 40)}"
        expected = f"ids below {clip(rows, 40)}, its rows"
        yield Finding("DIR-026", "rows", found, expected, file=_TOKENIZER)
    known = vocabulary | _added(file.value) | _added_later(settings and settings.value)
    config, generation = ck.checkpoint.config, _json(ck, _GENERATION)
    stated = {
        _CONFIG: config.get("eos_token_id") if config else None,
        _GENERATION: generation.get("eos_token_id") if isinstance(generation, dict) else None,
    }
    for source, value in stated.items():
        ends = [as_count(end) for end in (value if isinstance(value, list) else [value])]
        strange = [end for end in ends if end is not None and end not in known]
        if strange:
            found = f"eos_token_id {clip(strange[0], 40)}, no token of {_TOKENIZER}"
            yield Finding("DIR-026", "end", found, f"one of its {len(known)} ids", file=source)


def _vocabulary(tokenizer: Any) -> set[int]:
    """Ids of the vocabulary: an object of ids by token, or a list of tokens with their scores."""
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):
        return set(range(len(vocab)))
    found = vocab.values() if isinstance(vocab, dict) else ()
    return {value for value in found if as_count(value) is not None}


def _added(tokenizer: dict[str, Any]) -> set[int]:
    """Ids of the tokens that are no part of the vocabulary."""
    added = tokenizer.get("added_tokens")
    tokens = added if isinstance(added, list) else []
    found = (as_count(token.get("id")) for token in tokens if isinstance(token, dict))
    return {value for value in found if value is not None}


def _added_later(settings: Any) -> set[int]:
    """Ids of added_tokens_decoder, where older tools put them."""
    added = settings.get("added_tokens_decoder") if isinstance(settings, dict) else None
    names = added if isinstance(added, dict) else {}
    return {int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 10}


def _rows(ck: Context) -> int | None:
    """Rows of the largest embedding of tokens, else vocab_size; None if neither is known."""
    sizes = [
        shape[0]
        for module in ck.outside
        if layer_names.judged_by("NUM-008", module)
        and len(shape := ck.class_of[module].shapes.get("weight", ())) == 2
    ]
    config = ck.checkpoint.config
    return max(sizes, default=None) or (as_count(config.get("vocab_size")) if config else None)
