"""NORM: normalization weights, and what outlier suppression adds to them; headers."""

from collections.abc import Iterator

from slimcheck.context import Context, ModuleClass, join
from slimcheck.described import entries, readable
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS, NORM_TENSORS, is_norm
from slimcheck.registry import rule
from slimspec import layout
from slimspec.layout.beside import is_norm_copy

COPY = "module"  # last component of the older form's second set
_PART_COPIES = ("anti", "ori")


def norms(cls: ModuleClass) -> tuple[str, ...]:
    """Members of a class that are norms."""
    return tuple(filter(is_norm, cls.members))


def _copies(cls: ModuleClass) -> tuple[str, ...]:
    """Members that are the second set of a norm: `norm.module`."""
    pairs = ((member, *member.rpartition(".")[::2]) for member in cls.members)
    return tuple(member for member, parent, last in pairs if last == COPY and is_norm(parent))


@rule("NORM-001")
def bias_fits_its_weight(ck: Context) -> Iterator[Finding]:
    for cls in ck.classes:
        bias, weight = cls.tensors.get("bias"), cls.tensors.get("weight")
        names = tuple(join(norm, "bias") for norm in norms(cls)) if bias else ()
        if bias is None or not names:
            continue
        if weight is None:
            absent = tuple(join(norm, "weight") for norm in norms(cls))
            if all(name not in ck.labels for name in absent):  # else DESC-021
                yield _said(ck, "NORM-001", "alone", "a bias alone", "weight and bias", names)
        elif bias.shape != weight.shape:
            expected = f"shape {list(weight.shape)}, as the weight"
            yield _said(ck, "NORM-001", "shape", f"shape {list(bias.shape)}", expected, names)
        if bias.dtype not in FLOATS:
            expected = " or ".join(sorted(FLOATS))
            yield _said(ck, "NORM-001", "dtype", f"dtype {bias.dtype}", expected, names)


@rule("NORM-003")
def there_is_no_second_set(ck: Context) -> Iterator[Finding]:
    for cls in ck.classes:
        copies = _copies(cls)
        for suffix, spec in cls.tensors.items() if copies else ():
            names = tuple(join(member, suffix) for member in copies)
            if spec.label is not None or ck.profile != "A0":
                yield _said(ck, "NORM-003", "copy", f"{COPY}.{suffix}", "one set per norm", names)


@rule("NORM-004")
def bias_is_described_if_stored(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None:
        return
    stored = ck.checkpoint.table
    biases = [n for n in ck.labels if n.endswith(".bias") and is_norm(n.removesuffix(".bias"))]
    extra = tuple(name for name in biases if name not in stored) if ck.readable else ()
    if extra:
        yield entries(ck, "NORM-004", "extra", "bias described, not stored", "no entry", extra)
    for cls in ck.classes:
        names = tuple(join(n, "bias") for n in norms(cls)) if "bias" in cls.tensors else ()
        bare = tuple(
            name
            for name in names
            if name not in description.labels and name not in description.other
        )
        if bare:
            yield entries(ck, "NORM-004", "bare", "bias stored, not described", "an entry", bare)


@rule("NORM-005")
def parts_name_both_forms(ck: Context) -> Iterator[Finding]:
    for cls in ck.classes:
        for suffix in cls.tensors:
            names = tuple(join(member, suffix) for member in _copies(cls))
            if names:
                expected = " and ".join(f"{word}.{suffix}" for word in _PART_COPIES)
                yield _said(ck, "NORM-005", "name", f"{COPY}.{suffix}", expected, names)


@rule("NORM-006")
def norms_are_float(ck: Context) -> Iterator[Finding]:
    model = ck.metadata("model_quant_type")
    for cls in ck.classes:
        own = norms(cls)
        copies = tuple(member for member in cls.members if is_norm_copy(member, ck.profile))
        for suffix, spec in cls.tensors.items() if own or copies else ():
            found = layout.resolve(spec.label) if spec.label is not None else None
            if found is None or found[0].kind not in ("linear", "attention"):
                continue  # DESC-020, DESC-007
            for member in own if suffix in NORM_TENSORS else ():
                if found[0].type != "FLOAT":  # a wrapped FLOAT: DESC-028
                    yield _mislabelled(ck, join(member, suffix), f"{spec.label}", "FLOAT")
            for member in copies:
                if spec.label not in ("FLOAT", model):
                    expected = f"FLOAT or {model}"
                    yield _mislabelled(ck, join(member, suffix), f"{spec.label}", expected)


def _mislabelled(ck: Context, name: str, label: str, expected: str) -> Finding:
    return entries(ck, "NORM-006", "label", f"label {label}", expected, (name,))


def _said(
    ck: Context, key: str, kind: str, found: str, expected: str, names: tuple[str, ...]
) -> Finding:
    return Finding(key, kind, found, expected, names, ck.one_file(names))
