"""Every tensor of every real checkpoint fits the layout of its label.

Independent of the checkpoint reader: headers are read here with struct and json, and the writer is
told by the members of the description alone.
"""

import json
import os
import re
import struct
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from slimspec import layout
from slimspec.layout import vocabulary

ORACLE = Path(
    os.environ.get("SLIMSPEC_ORACLE", Path(__file__).resolve().parents[3] / "shared" / "oracle")
)
DESCRIPTIONS = sorted((ORACLE / "checkpoints").glob("**/quant_model_description*.json"))
if not DESCRIPTIONS:
    pytest.skip(f"no oracle checkpoints below {ORACLE}", allow_module_level=True)

FLOATS = {"F16", "BF16", "F32"}


class Stored(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    label: str | None


class Case(NamedTuple):
    profile: str
    model_type: str | None
    model_dtype: str
    hosts: dict[str, dict[str, Stored]]  # prefix -> suffix as stored -> tensor


def header(path):
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries


def writer(description, tensors):
    if description.get("model_quant_type", "").endswith("SC"):
        return "SC"
    if "optional" in description:
        return "A1"
    if "version" in description:
        return "A0"
    static = [name for name in tensors if name.endswith(".deq_scale")]
    bare = all(name.replace("deq_scale", "weight_scale") not in tensors for name in static)
    floats = all(tensors[name]["dtype"] == "F32" for name in static)
    return "MF" if static and bare and floats else "L0"


def suffixes(profile):
    """Every suffix of more than one part that some layout of the profile knows."""
    known = set(layout.attachments(profile))
    for name in layout.types():
        if profile in layout.load(name).profiles:
            known |= set(layout.load(name).rules(profile))
    return {suffix for suffix in known if "." in suffix}


def generic(suffix):
    return re.sub(r"\.\d+(?=\.|$)", ".{i}", suffix)


def split(name, known):
    parts = name.split(".")
    for count in (4, 3, 2):
        suffix = ".".join(parts[-count:])
        if len(parts) > count and generic(suffix) in known:
            return ".".join(parts[:-count]), suffix
    return ".".join(parts[:-1]), parts[-1]


def read(path):
    description = json.loads(path.read_text(encoding="utf-8"))
    tensors = {}
    for file in path.parent.glob("*.safetensors"):
        tensors |= header(file)
    profile = writer(description, tensors)
    norms = {t["dtype"] for name, t in tensors.items() if name.endswith("norm.weight")}
    known = suffixes(profile)
    hosts = defaultdict(dict)
    for name, entry in tensors.items():
        prefix, suffix = split(name, known)
        label = description.get(name)
        hosts[prefix][suffix] = Stored(entry["dtype"], tuple(entry["shape"]), label)
    (model_dtype,) = norms if len(norms) == 1 else (None,)
    return Case(profile, description.get("model_quant_type"), model_dtype, dict(hosts))


def problems_of_rules(rules, found, own, case):
    """Dtype, label and shape of the tensors of one host."""
    for suffix, tensor in found.items():
        rule = rules.get(generic(suffix))
        if rule is None or rule.presence == "forbidden":
            yield f"{suffix}: not part of {own} in {case.profile}"
            continue
        if tensor.dtype not in rule.resolve_dtypes(case.model_dtype):
            yield f"{suffix}: {tensor.dtype}, not {rule.dtypes} of a {case.model_dtype} model"
        if not rule.accepts_label(tensor.label, own, case.model_type):
            yield f"{suffix}: labelled {tensor.label}, not one of {rule.labels}"
    exact = {suffix: rules[generic(suffix)] for suffix in found if generic(suffix) in rules}
    shapes = {suffix: tensor.shape for suffix, tensor in found.items()}
    for problem in layout.bind(exact, shapes).problems:
        yield f"{problem.suffix}: {list(problem.found)}, not {problem.expected}"


def problems_of_linear(found, case):
    own = found["weight"].label
    rules = layout.rules(own, case.profile)
    guests = layout.attachments(case.profile)
    extra = {suffix for suffix in found if suffix not in rules and generic(suffix) in guests}
    reduced = any(suffix.startswith(("gather", "reduce")) for suffix in extra)
    released = set(layout.load("reduce").releases) if reduced else set()
    for suffix, rule in rules.items():
        if rule.presence == "required" and suffix not in found and suffix not in released:
            yield f"{suffix} is missing"
    mine = {suffix: tensor for suffix, tensor in found.items() if suffix not in extra}
    yield from problems_of_rules(rules, mine, own, case)
    shards = defaultdict(dict)
    for suffix in extra:
        number = re.search(r"tp_list\.(\d+)", suffix)
        shards[number[1] if number else ""][suffix] = found[suffix]
    for shard in shards.values():
        yield from problems_of_rules(guests, shard, own, case)


def problems_of_constraints(found, case):
    kind, wrapper = layout.resolve(found["weight"].label, case.profile)
    rules = layout.rules(found["weight"].label, case.profile)
    env = layout.bind(rules, {suffix: tensor.shape for suffix, tensor in found.items()}).env
    for constraint in (*kind.constraints, *(wrapper.constraints if wrapper else ())):
        applies = constraint.phase == "layout" and all(s in found for s in constraint.when)
        if applies and layout.holds(constraint.expr, env) is not True:
            yield f"not {constraint.expr} with {dict(env)}"


def problems_of_float(prefix, found, case):
    norm = layout.rules("norm", case.profile) if case.profile != "SC" else {}
    for suffix, tensor in found.items():
        name = f"{prefix}.{suffix}"
        if tensor.label == "FLOAT" and tensor.dtype not in FLOATS:
            yield f"{suffix}: {tensor.dtype} labelled FLOAT"
        if tensor.label is None and not vocabulary.may_be_undescribed(name, case.profile):
            yield f"{suffix}: has no entry"
        if tensor.label not in ("FLOAT", None):
            rule = norm.get(suffix)
            if rule is None or not rule.accepts_label(tensor.label, "FLOAT", case.model_type):
                yield f"{suffix}: labelled {tensor.label} beside a float weight"


def problems(case):
    attention = {
        suffix: rule
        for name in ("C8", "FAQuant")
        if case.profile in layout.load(name).profiles
        for suffix, rule in layout.rules(name, case.profile).items()
    }
    for prefix, found in case.hosts.items():
        weight = found.get("weight")
        if set(found) <= set(attention):
            lines = problems_of_rules(attention, found, "", case)
        elif weight is not None and weight.label not in ("FLOAT", None):
            lines = [*problems_of_linear(found, case), *problems_of_constraints(found, case)]
        else:
            lines = problems_of_float(prefix, found, case)
        yield from (f"{prefix}: {line}" for line in lines)


@pytest.mark.parametrize(
    "path", DESCRIPTIONS, ids=lambda p: str(p.parent.relative_to(ORACLE / "checkpoints"))
)
def test_real_checkpoint_fits_the_layouts(path):
    case = read(path)
    assert case.hosts
    assert list(problems(case)) == []


@pytest.mark.parametrize(
    "path", DESCRIPTIONS, ids=lambda p: str(p.parent.relative_to(ORACLE / "checkpoints"))
)
def test_real_description_holds_known_words_only(path):
    tensors = set()
    for file in path.parent.glob("*.safetensors"):
        tensors |= set(header(file))
    for key, value in json.loads(path.read_text(encoding="utf-8")).items():
        if key in tensors:
            assert vocabulary.is_label(value), (key, value)
        elif key not in vocabulary.metadata_keys():
            expected = vocabulary.layer_key(key)
            assert expected is not None, key
            assert re.fullmatch(expected["pattern"], value), (key, value)
