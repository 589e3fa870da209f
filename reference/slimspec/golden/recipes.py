"""Which valid golden checkpoints there are: every scheme, in the profiles that write it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slimspec.pipeline.quantize import Plan
from slimspec.pipeline.recipe import load

RANGES = {"*.self_attn.o_proj": (-1.25, 0.75), "*.down_proj": (-3.0, 3.5), "*": (-2.0, 2.5)}


@dataclass(frozen=True)
class Recipe:
    """One valid golden checkpoint.

    Attributes:
        id: stable name, never reused.
        comment: what it shows.
        dtype, model: of the float model (`tiny_models`).
        plan: how it is quantized.
        attention: type of the attention tensors that are added, if any.
        tp: number of compressed parts, 0 = not compressed.
    """

    id: str
    comment: str
    dtype: str
    plan: Plan
    model: str = "dense"
    attention: str | None = None
    tp: int = 0

    @property
    def type(self) -> str:
        if self.tp:
            return f"{self.plan.scheme}C"
        return self.attention or self.plan.scheme or "mixed"


def recipes() -> Iterator[Recipe]:
    """Every valid golden checkpoint, in the order of the manifest."""
    for dtype in ("fp16", "bf16"):
        yield Recipe(f"float-a1-{dtype}", "described, nothing quantized", dtype, Plan("FLOAT"))
        for producer in ("A1", "A0"):
            yield from _eight_bits(dtype, producer)
            yield from _four_bits(dtype, producer)
        yield from _float_formats(dtype)
    yield from _legacy()
    yield from _sparse()
    yield from _attention()
    yield from _experts()


def _rest(producer: str) -> dict[str, Any]:
    return {"producer": producer, "part_file_size": 4 if producer == "A1" else 0}


def _eight_bits(dtype: str, producer: str) -> Iterator[Recipe]:
    tail = f"{producer.lower()}-{dtype}"
    rest = _rest(producer)
    yield Recipe(
        f"w8a8-{tail}", "static W8A8, o_proj of layer 1 left FLOAT", dtype,
        Plan("W8A8", ranges=RANGES, exclude=("model.layers.1.self_attn.o_proj",), **rest),
    )  # fmt: skip
    yield Recipe(
        f"w8a8-dynamic-{tail}", "W8A8_DYNAMIC, per-channel", dtype, Plan("W8A8_DYNAMIC", **rest)
    )
    yield Recipe(f"w8a16-{tail}", "W8A16, per-channel symmetric", dtype, Plan("W8A16", **rest))
    yield Recipe(
        f"w8a16-asym-g32-{tail}", "W8A16, per-group 32 asymmetric", dtype,
        Plan("W8A16", group_size=32, symmetric=False, **rest),
    )  # fmt: skip
    if dtype == "bf16":
        yield Recipe(
            f"w8a8-mix-{tail}", "W8A8_MIX: static and dynamic in one", dtype,
            Plan("W8A8_MIX", producer, ranges=RANGES, part_file_size=0),
        )  # fmt: skip


def _four_bits(dtype: str, producer: str) -> Iterator[Recipe]:
    tail = f"{producer.lower()}-{dtype}"
    rest = _rest(producer)
    if producer == "A0":
        yield Recipe(f"w4a16-{tail}", "W4A16, packed along k", dtype, Plan("W4A16", **rest))
        yield Recipe(
            f"w4a16-g32-{tail}", "W4A16, per-group 32 asymmetric, packed along n", dtype,
            Plan("W4A16", group_size=32, symmetric=False, **rest),
        )  # fmt: skip
        yield Recipe(
            f"w4a8-g32-{tail}", "W4A8_DYNAMIC on two levels, groups of 32", dtype,
            Plan("W4A8_DYNAMIC", group_size=32, **rest),
        )  # fmt: skip
    else:
        yield Recipe(f"w4a8-{tail}", "W4A8_DYNAMIC, per-channel", dtype, Plan("W4A8_DYNAMIC"))
        yield Recipe(f"w4a4-{tail}", "W4A4_DYNAMIC, not packed", dtype, Plan("W4A4_DYNAMIC"))


def _float_formats(dtype: str) -> Iterator[Recipe]:
    for scheme, name in (
        ("WFP8AFP8_DYNAMIC", "wfp8afp8"),
        ("W8A8_MXFP8", "mxfp8"),
        ("W4A8_MXFP", "w4a8-mxfp"),
        ("W4A4_MXFP4", "mxfp4"),
    ):
        yield Recipe(f"{name}-a1-{dtype}", scheme, dtype, Plan(scheme))


def _legacy() -> Iterator[Recipe]:
    whole: dict[str, Any] = {"part_file_size": 0}
    yield Recipe(
        "w8a8-a0-fp32", "static W8A8 of a float32 model: deq_scale is int64", "fp32",
        Plan("W8A8", "A0", ranges=RANGES, **whole),
    )  # fmt: skip
    yield Recipe(
        "w8a8-l0-fp16", "static W8A8 in the legacy layout", "fp16",
        Plan("W8A8", "L0", ranges=RANGES, **whole),
    )  # fmt: skip
    yield Recipe(
        "w4a16-g32-l0-fp16", "W4A16 in the legacy layout: not packed, no group_size", "fp16",
        Plan("W4A16", "L0", group_size=32, **whole),
    )  # fmt: skip
    yield Recipe(
        "w8a8-mf-bf16", "static W8A8 as MindIE-SD stores it: deq_scale is float32", "bf16",
        Plan("W8A8", "MF", ranges=RANGES, **whole),
    )  # fmt: skip


def _sparse() -> Iterator[Recipe]:
    eight: Mapping[str, Any] = {"ranges": RANGES, "part_file_size": 0}
    yield Recipe(
        "w8a8s-a0-fp16", "W8A8S: sparse, stored dense", "fp16", Plan("W8A8S", "A0", **eight),
        model="sparse",
    )  # fmt: skip
    yield Recipe(
        "w16a16s-a1-fp16", "W16A16S: sparse float weights", "fp16", Plan("W16A16S"), model="sparse"
    )
    yield Recipe(
        "w8a8sc-tp2", "W8A8SC: two compressed parts", "fp16", Plan("W8A8S", "A0", **eight),
        model="sparse", tp=2,
    )  # fmt: skip
    yield Recipe(
        "w16a16sc-tp1", "W16A16SC: one compressed part", "fp16", Plan("W16A16S"), model="sparse",
        tp=1,
    )  # fmt: skip


def _attention() -> Iterator[Recipe]:
    for producer, kind in (("A1", "C8"), ("A0", "C8"), ("A1", "FAQuant")):
        yield Recipe(
            f"w8a8-dynamic-{kind.lower()}-{producer.lower()}-bf16",
            f"W8A8_DYNAMIC with {kind} tensors", "bf16",
            Plan("W8A8_DYNAMIC", producer, part_file_size=0), attention=kind,
        )  # fmt: skip


def _experts() -> Iterator[Recipe]:
    yield Recipe(
        "qwen-moe-w8a8-a0-bf16", "static attention, dynamic experts", "bf16",
        Plan(recipe=load("qwen-moe-w8a8"), ranges=RANGES), model="moe",
    )  # fmt: skip
    yield Recipe(
        "deepseek-w8a8-bf16", "MLA static, dense and experts dynamic", "bf16",
        Plan(recipe=load("deepseek-w8a8"), ranges=RANGES), model="mla",
    )  # fmt: skip
    yield Recipe(
        "deepseek-w4a8-g32-bf16", "MLA static, routed experts W4A8 on two levels", "bf16",
        Plan(recipe=load("deepseek-r1-w4a8").with_group_size(32), ranges=RANGES,
             part_file_size=0),
        model="mla",
    )  # fmt: skip
