"""VAL: damage that shows without the float model: holes, noise, copies, missing norms."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS, is_norm
from slimcheck.registry import after_rule, rule, value_rule
from slimcheck.values.blocks import Blocks
from slimcheck.values.modules import Module
from slimcheck.values.stacks import Stack

_PRUNED = frozenset({"W8A8S", "W8A8SC", "W16A16S", "W16A16SC"})
_BYTES = frozenset({"I8", "U8", "F8_E4M3"})
_LEAST = 64  # elements of a weight that is compared with others
_MOST_ENDS, _TIMES = 16, 3  # blocks of recorded weights have less than twice the mean
_LAYER = re.compile(r"(.*?\.)(\d{1,6})(?:\.|\Z)")
_LAYER_NORM = re.compile(r"(.*\.)(\d{1,6})\.([^.]+)")
_COMMON = 2 / 3  # of the layers have a norm that all should have


def _has_no_constant_block(ck: Context, stack: Stack) -> bool:
    return not stack.blocks.constant.size


@value_rule("VAL-001", clears=_has_no_constant_block)
def no_block_is_constant(ck: Context, module: Module) -> Iterator[Finding]:
    spec = module.cls.tensors.get("weight")
    if spec is None or len(spec.shape) != 2 or module.base_label in _PRUNED:
        return
    if spec.dtype not in FLOATS | _BYTES:
        return
    stored = module.array("weight").reshape(-1)
    stored = stored.view(f"u{stored.itemsize}")
    run = _broken_run(stored, module.blocks, spec.shape[1] if stored.size else 1)
    if run is not None:
        begin, end = run
        row, column = divmod(begin, spec.shape[1])
        found = f"{end - begin} equal elements from [{row}, {column}] on"
        name = module.tensor("weight")
        yield Finding(
            "VAL-001", "constant", found, "no such run, or whole rows", (name,),
            module.file("weight"),
        )  # fmt: skip


def _broken_run(stored: NDArray[Any], blocks: Blocks, k: int) -> tuple[int, int] | None:
    """First run of equal elements over a whole block that begins or ends inside a row."""
    done = 0
    for block in blocks.constant:
        begin = blocks.element(int(block))
        if begin < done:
            continue
        value, end = stored[begin], begin + blocks.step
        begin -= _equal(stored[max(begin - k, 0) : begin][::-1], value)
        while end < stored.size:
            more = _equal(stored[end : end + blocks.step], value)
            end += more
            if more < blocks.step:
                break
        whole = begin % k == 0 and end % k == 0
        # a row that begins with the value of the hole before it: whole rows and a little more
        if not whole and end - begin < stored.size:
            return begin, end
        done = end
    return None


def _equal(x: NDArray[Any], value: Any) -> int:
    """How many elements at the front are `value`."""
    other = x != value
    return int(np.argmax(other)) if other.any() else x.size


def _has_no_full_block(ck: Context, stack: Stack) -> bool:
    return stack.integers is not None and stack.integers.ends.max(initial=0) <= _MOST_ENDS


@value_rule("VAL-012", clears=_has_no_full_block)
def no_block_is_noise(ck: Context, module: Module) -> Iterator[Finding]:
    stats = module.integers
    if stats is None or not stats.ends.size:  # two codes in a byte have none
        return
    size = module.cls.tensors["weight"].shape
    mean = stats.beyond * stats.blocks.step / max(size[0] * size[1], 1)
    wrong = stats.ends > max(_MOST_ENDS, _TIMES * mean)
    if wrong.any():
        block = int(np.argmax(wrong))
        row, column = divmod(stats.blocks.element(block), size[1])
        found = f"{stats.ends[block]} at the ends in the block from [{row}, {column}] on"
        name = module.tensor("weight")
        expected = f"about {mean:.1f}, as elsewhere in the weight"
        yield Finding("VAL-012", "noise", found, expected, (name,), module.file("weight"))


@value_rule("VAL-005")
def note_the_weight(ck: Context, module: Module) -> Iterator[Finding]:
    """Keep a fingerprint of the weight: some of its elements tell most weights apart."""
    if module.label is None or module.base_label == "FLOAT":
        return
    spec, stats = module.cls.tensors["weight"], module.integers
    if len(spec.shape) != 2 or spec.shape[0] * spec.shape[1] < _LEAST:
        return
    if stats is None:
        some = module.words("weight").sample.tobytes()
    else:
        some = stats.sample.tobytes()
        if some.count(some[:1]) == len(some) and stats.least.min() == stats.most.max():
            return
    told = f"{spec.dtype} {spec.shape}".encode() + some
    ck.fingerprints[module.name] = hashlib.blake2b(told, digest_size=16).digest()
    yield from ()


@after_rule("VAL-005")
def weights_are_not_copies(ck: Context) -> Iterator[Finding]:
    """Weights of one fingerprint are told apart by all of their bytes."""
    alike: dict[bytes, list[str]] = {}
    for name in sorted(ck.fingerprints):
        alike.setdefault(ck.fingerprints[name], []).append(f"{name}.weight")
    for names in alike.values():
        first: dict[bytes, str] = {}
        for name in names if len(names) > 1 else ():
            content = hashlib.blake2b(ck.checkpoint.raw(name).data, digest_size=16).digest()
            if name != first.setdefault(content, name):
                yield Finding(
                    "VAL-005", "copy", f"the bytes of {first[content]}", "a weight of its own",
                    (name,), ck.file_of(name),
                )  # fmt: skip


@rule("VAL-011")
def layers_have_the_norms_of_others(ck: Context) -> Iterator[Finding]:
    if not ck.readable:
        return
    layers: dict[str, set[str]] = {}
    norms: dict[tuple[str, str], set[str]] = {}
    for module, cls in ck.class_of.items():
        found = _LAYER.match(module)
        if found:
            layers.setdefault(found[1], set()).add(found[2])
        norm = is_norm(module) and "weight" in cls.tensors and _LAYER_NORM.fullmatch(module)
        if norm:
            norms.setdefault((norm[1], norm[3]), set()).add(norm[2])
    for (stack, norm_name), having in norms.items():
        all_layers = layers.get(stack, set())
        missing = sorted(all_layers - having, key=int)
        if missing and len(having) >= _COMMON * len(all_layers):
            names = tuple(f"{stack}{layer}.{norm_name}.weight" for layer in missing)
            found_text = f"absent, {len(having)} of {len(all_layers)} layers have it"
            yield Finding("VAL-011", "norm", found_text, "the norm in every layer", names)
