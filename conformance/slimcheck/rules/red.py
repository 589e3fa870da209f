"""RED: communication quantization of row-parallel linears."""

import re
from collections.abc import Iterator, Mapping

from slimcheck.context import REDUCE, Context, Spec
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS
from slimcheck.registry import rule

_INNER = re.compile(r"(.+)\.(?:reduce_scale|(tp_list\.(\d{1,9})))")
_PAIR = ("weight_scale", "weight_offset")


class Reduced:
    """One communication-quantized linear."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.own: Mapping[str, Spec] = {}
        self.scales: dict[str, Spec] = {}  # full name -> gather_scale, reduce_scale or one of many
        self.shards: dict[int, Mapping[str, Spec]] = {}  # number -> tensors of tp_list.{i}

    @property
    def shape(self) -> tuple[int, ...]:
        weight = self.own.get("weight")
        return weight.shape if weight is not None else ()


def reduced(ck: Context) -> list[Reduced]:
    """Every linear with communication scales or shards."""
    found: dict[str, Reduced] = {}
    specs = {member: cls.tensors for cls in ck.classes for member in cls.members}
    for module, tensors in specs.items():
        inner = _INNER.fullmatch(module)
        host = inner[1] if inner else module
        if inner is None and REDUCE.isdisjoint(tensors):
            continue
        linear = found.setdefault(host, Reduced(host))
        linear.own = specs.get(host, {})
        if inner and inner[2]:
            linear.shards[int(inner[3])] = tensors
        else:
            names = tensors if inner else REDUCE & tensors.keys()
            linear.scales |= {f"{module}.{suffix}": tensors[suffix] for suffix in names}
    return list(found.values())


@rule("RED-001")
def both_scales_are_there(ck: Context) -> Iterator[Finding]:
    for linear in reduced(ck):
        if not linear.scales:  # cut over ranks, and their sums stay float
            continue
        leaves = [name.removeprefix(linear.name + ".") for name in linear.scales]
        numbered = [leaf for leaf in leaves if leaf.startswith("reduce_scale.")]
        wanted = [f"reduce_scale.{i}" for i in range(max(len(numbered), len(linear.shards)))]
        if "gather_scale" not in leaves:
            yield _said(ck, "RED-001", "gather", linear, leaves, "gather_scale")
        if "reduce_scale" not in leaves and (not numbered or set(numbered) != set(wanted)):
            expected = "reduce_scale, or reduce_scale.{i} from 0, one for each shard"
            yield _said(ck, "RED-001", "reduce", linear, leaves, expected)
        for name, spec in linear.scales.items():
            if spec.dtype not in FLOATS:
                expected = " or ".join(sorted(FLOATS))
                yield Finding(
                    "RED-001", "dtype", f"dtype {spec.dtype}", expected, (name,), ck.file_of(name)
                )


def _said(
    ck: Context, key: str, kind: str, linear: Reduced, leaves: list[str], expected: str
) -> Finding:
    name = f"{linear.name}.weight"
    found = f"only {', '.join(sorted(leaves))}" if leaves else "no scales"
    return Finding(key, kind, found, expected, (name,), ck.file_of(name))


@rule("RED-003")
def shards_are_whole(ck: Context) -> Iterator[Finding]:
    for linear in reduced(ck):
        numbers, count = sorted(linear.shards), len(linear.shards)
        leaves = [f"tp_list.{i}" for i in numbers]
        if not count and not linear.own.keys().isdisjoint(("deq_scale", "weight_scale")):
            continue  # it dequantizes itself
        if numbers != list(range(count)) or not count:
            yield _said(ck, "RED-003", "numbers", linear, leaves, "tp_list.{i} from 0, no gap")
            continue
        for i, tensors in linear.shards.items():
            shard = f"{linear.name}.tp_list.{i}"
            weight, whole = tensors.get("weight"), linear.shape
            if weight is not None and len(whole) == 2:
                wanted = (whole[0], whole[1] // count)
                if weight.shape != wanted or whole[1] % count:
                    found = f"shape {list(weight.shape)}"
                    expected = f"shape [n, k / {count}] = {[whole[0], f'{whole[1]} / {count}']}"
                    name = f"{shard}.weight"
                    yield Finding(
                        "RED-003", "shape", found, expected.replace("'", ""), (name,),
                        ck.file_of(name),
                    )  # fmt: skip
            if all(f"{shard}.{s}" not in ck.labels for s in _PAIR) and tensors.keys().isdisjoint(
                _PAIR
            ):
                names = tuple(f"{shard}.{suffix}" for suffix in _PAIR)
                yield Finding("RED-003", "missing", "not stored", "a scale per shard", names)


@rule("RED-004")
def engine_is_told(ck: Context) -> Iterator[Finding]:
    config = ck.root.config.value if ck.root.config else {}
    quantization = config.get("quantization_config")
    stated = [ck.metadata("reduce_quant_type")]
    if isinstance(quantization, dict):
        stated.append(quantization.get("reduce_quant_type"))
    if "per_channel" not in stated and any(linear.scales for linear in reduced(ck)):
        yield Finding(
            "RED-004", "absent", "communication scales, no reduce_quant_type", "per_channel",
            file=ck.description_name,
        )  # fmt: skip
