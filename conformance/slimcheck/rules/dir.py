"""DIR: which files lie in the directory, and how they are called."""

import re
import stat
from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import EVERYWHERE, ROOT, rule
from slimcheck.rules.idx import FLOAT_INDEX
from slimspec.checkpoint.profile import PLAIN_DESCRIPTION
from slimspec.layout import profiles

_DESCRIPTION = re.compile(r".*quant_model_description(_\w+)?\.json")
_FLOAT_WEIGHTS = re.compile(r"(model(-\d{5,}-of-\d{5,})?|pytorch_model.*)\.safetensors")
_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model", "tiktoken.model")


@rule("DIR-001", on=ROOT)
def one_layout_family(ck: Context) -> Iterator[Finding]:
    detected = ck.checkpoint.profile
    if detected.name is None:
        yield Finding(
            "DIR-001", "none", "; ".join(detected.evidence), "the files of one producer profile"
        )
    for conflict in () if detected.forced else detected.conflicts:
        yield Finding("DIR-001", "conflict", conflict, f"only what profile {detected.name} writes")


@rule("DIR-002")
def one_description(ck: Context) -> Iterator[Finding]:
    names = [f.name for f in ck.checkpoint.files if _DESCRIPTION.fullmatch(f.name)]
    if len(names) == 1:
        return
    jsons = sorted(f.name for f in ck.checkpoint.files if f.name.endswith(".json"))
    if names:
        found = ", ".join(names)
        yield Finding("DIR-002", "several", found, "exactly one description file")
    else:
        found = f"no quant_model_description*.json (JSON files: {', '.join(jsons) or 'none'})"
        yield Finding("DIR-002", "missing", found, "exactly one description file")


@rule("DIR-003")
def weights_exist(ck: Context) -> Iterator[Finding]:
    if not ck.checkpoint.shards:
        found = "no *.safetensors"
        if ck.checkpoint.rank_directories:
            found += f", but {', '.join(ck.checkpoint.rank_directories)}: an export not merged"
        yield Finding("DIR-003", "missing", found, "at least one weights file")


@rule("DIR-004")
def weights_are_named_by_the_profile(ck: Context) -> Iterator[Finding]:
    if ck.profile not in profiles.names():
        return
    profile = profiles.profile(ck.profile)
    if profile.weights_pattern is None:
        return
    for shard in ck.checkpoint.shards:
        known = profile.owns(shard.name) or profile.tolerates(shard.name)
        if not known and not _FLOAT_WEIGHTS.fullmatch(shard.name):  # those are DIR-008's
            yield Finding(
                "DIR-004", "name", shard.name, profile.weights_pattern,
                file=ck.prefix + shard.name,
            )  # fmt: skip


@rule("DIR-005")
def legacy_names_carry_the_type(ck: Context) -> Iterator[Finding]:
    yield from _names_with_other_type(ck, "DIR-005", description=True)


@rule("DIR-006")
def weights_name_carries_the_type(ck: Context) -> Iterator[Finding]:
    yield from _names_with_other_type(ck, "DIR-006", description=False)


def _names_with_other_type(ck: Context, key: str, description: bool) -> Iterator[Finding]:
    label = ck.metadata("model_quant_type")
    if not isinstance(label, str):
        return
    pattern = re.compile(
        r"quant_model_(weight|description)_(?P<type>[a-z0-9_]+?)"
        r"(-\d{5,}-of-\d{5,})?\.(safetensors|json)"
    )
    names = [shard.name for shard in ck.checkpoint.shards]
    if description:
        names += ck.checkpoint.description_candidates
    for name in names:
        match = pattern.fullmatch(name)
        if match and match["type"] != label.lower():
            yield Finding(
                key, "type", f"{match['type']} in {name}", label.lower(), file=ck.prefix + name
            )


@rule("DIR-007")
def description_name_goes_with_version(ck: Context) -> Iterator[Finding]:
    description = ck.checkpoint.description
    version = ck.metadata("version")
    if description is None or not description.labels:
        return
    plain = description.name == PLAIN_DESCRIPTION
    versioned = isinstance(version, str) and version != "0.0.0"
    if plain != versioned:
        wanted = PLAIN_DESCRIPTION if versioned else "quant_model_description_{type}.json"
        found = f"{description.name} with version {version or 'absent'}"
        yield Finding("DIR-007", "name", found, wanted, file=ck.prefix + description.name)


@rule("DIR-008")
def no_second_weights_family(ck: Context) -> Iterator[Finding]:
    if ck.profile in ("CTS", "SH310", "OFF"):
        return
    foreign = [s.name for s in ck.checkpoint.shards if _FLOAT_WEIGHTS.fullmatch(s.name)]
    if foreign and len(foreign) < len(ck.checkpoint.shards):
        found = f"{len(foreign)} files of another family, {foreign[0]} first"
        yield Finding(
            "DIR-008", "foreign", found, "the quantized weights only", file=ck.prefix + foreign[0]
        )


@rule("DIR-009")
def tensor_is_stored_once(ck: Context) -> Iterator[Finding]:
    if ck.profile == "SH310":  # each rank holds its slice under the same name
        return
    table = ck.checkpoint.table
    places: dict[tuple[int, ...], list[str]] = {}
    for name, files in table.duplicates.items():
        places.setdefault(files, []).append(name)
    for files, names in places.items():
        found = "in " + " and ".join(table.files[file] for file in files)
        yield Finding("DIR-009", "twice", found, "one file", tuple(names))


@rule("DIR-010")
def float_index_lists_these_files(ck: Context) -> Iterator[Finding]:
    for index in ck.checkpoint.indexes:
        if index.name != FLOAT_INDEX or not index.files:
            continue
        present = set(ck.checkpoint.table.files)
        absent = [file for file in index.files if file not in present]
        if absent:
            found = f"lists {absent[0]} …: {len(absent)} of its {len(index.files)} files are absent"
            yield Finding(
                "DIR-010", "stale", found, "the weights files of this directory",
                file=ck.prefix + index.name,
            )  # fmt: skip


@rule("DIR-011", on=ROOT)
def config_is_an_object(ck: Context) -> Iterator[Finding]:
    config = ck.checkpoint.config
    if config is None:
        yield Finding("DIR-011", "missing", "no config.json", "config.json of the model")
        return
    for defect in config.defects:
        if defect.code != "config-dtype":  # CFG-008
            yield Finding("DIR-011", defect.code, defect.found, defect.expected, file="config.json")


@rule("DIR-012", on=ROOT)
def tokenizer_is_there(ck: Context) -> Iterator[Finding]:
    names = {f.name for f in ck.checkpoint.files}
    if names.isdisjoint(_TOKENIZERS):
        yield Finding("DIR-012", "missing", "no tokenizer file", " or ".join(_TOKENIZERS))


@rule("DIR-013")
def weights_are_not_writable_by_others(ck: Context) -> Iterator[Finding]:
    for entry in ck.checkpoint.files:
        if entry.name.endswith(".safetensors") and entry.mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield Finding(
                "DIR-013", "mode", f"mode {entry.mode:04o}", "not writable by group or others",
                file=ck.prefix + entry.name,
            )  # fmt: skip


@rule("DIR-021", on=EVERYWHERE)
def no_numpy_dumps(ck: Context) -> Iterator[Finding]:
    dumps = [f.name for f in ck.checkpoint.files if f.name.endswith(".npy")]
    if dumps and ck.checkpoint.shards:
        yield Finding(
            "DIR-021", "npy", ", ".join(dumps[:8]), "safetensors only", file=ck.prefix + dumps[0]
        )


@rule("DIR-022")
def optional_files_exist(ck: Context) -> Iterator[Finding]:
    for tensor, path in ck.optional_tensors():
        header = next((h for h in ck.checkpoint.optional if h.name == path), None)
        if header is None:
            yield Finding("DIR-022", "absent", f"no {path}", "the file that `optional` names")
        elif all(entry.name != tensor for entry in header.entries):
            yield Finding("DIR-022", "tensor", f"no {tensor}", "a tensor of that name", file=path)


@rule("DIR-023", on=ROOT)
def no_foreign_quantization_config(ck: Context) -> Iterator[Finding]:
    config = ck.checkpoint.config
    method = config.quant_method if config else None
    if method is not None and ck.profile != "CTS":
        yield Finding(
            "DIR-023", "quant_method", f"quant_method {method!r}", "no quantization_config",
            file="config.json",
        )  # fmt: skip


@rule("DIR-024")
def no_stale_index_beside_sharded_state(ck: Context) -> Iterator[Finding]:
    for index in ck.checkpoint.indexes if ck.profile == "SH310" else ():
        yield Finding("DIR-024", "stale", index.name, "no index", file=ck.prefix + index.name)
