"""What an engine gets to see of a directory: labels by kind of layer, shapes, metadata, names."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from slimcheck.consumers_facts import FLAT, OFFLINE, PARTS, RANKS
from slimcheck.described import MOST
from slimcheck.layouts import label_of, rules_of
from slimspec import layout
from slimspec.checkpoint import CheckpointError

if TYPE_CHECKING:
    from slimcheck.context import Context, ModuleClass
    from slimspec.checkpoint import Checkpoint

LINEAR, MOE, HEAD = "linear", "moe", "head"
_LIE = {
    FLAT: "weights in the directory itself",
    PARTS: "weights in directories partR-of-N",
    RANKS: "weights in files model-rank-R-part-P.safetensors",
    OFFLINE: "weights in directories of model_sharded_metadata.json",
}
_READ = ("weight_offset", "bias")


@dataclass(frozen=True, slots=True)
class Kind:
    """Modules of one label, one kind of layer, one last name and one set of shapes."""

    label: str | None
    layer: str
    shapes: Mapping[str, tuple[int, ...]]  # suffix -> shape
    env: Mapping[str, int] = field(default_factory=dict)  # n, k, g …
    members: Sequence[str] = ()
    leaf: str = ""  # last component of the members' names
    nonzero: frozenset[str] | None = None  # offsets and biases that are not 0; None = not read


@dataclass(frozen=True)
class Seen:
    """One directory.

    Attributes:
        pairs: (label, kind of layer) -> number of weights described so.
        kinds: the modules that are stored.
        metadata: members of the description that are no labels.
        descriptions: names of the description files.
        quantize: of config.json; "" if absent.
        model_dtype: "F16", "BF16", "F32" or None.
        model_types: model_type of config.json, then those of the models inside.
        config: members of config.json, those of the models inside where the outer has none.
        container: how the files lie: FLAT, PARTS, RANKS or OFFLINE.
        alone: the container that this directory is only one piece of; "" = it is whole.
    """

    pairs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    kinds: Sequence[Kind] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    descriptions: tuple[str, ...] = ()
    quantize: str = ""
    model_dtype: str | None = None
    directory: str = "DIR"
    model_types: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    container: str = FLAT
    alone: str = ""

    @property
    def lie(self) -> str:
        """How the files lie, in words."""
        return _LIE[self.container]

    @property
    def labels(self) -> dict[str, int]:
        """Label -> number of weights."""
        found: Counter[str] = Counter()
        for (label, _), count in self.pairs.items():
            found[label] += count
        return dict(found)


def layer_kind(weight: str) -> str:
    """Kind of layer a weight belongs to, by its name."""
    if ".experts." in weight:
        return MOE
    return HEAD if weight in ("lm_head.weight", "lm_head") or ".lm_head." in weight else LINEAR


def look(checkpoint: "Checkpoint", contexts: Sequence["Context"], *, read: bool) -> Seen:
    """Gather what engines see.

    Args:
        read: whether offsets may be read to see if they are zero.
    """
    holders = [context for context in contexts if context.where != "root"]
    described = [c.checkpoint.description for c in holders if c.checkpoint.description]
    first = described[0] if described else None
    config = checkpoint.config
    return Seen(
        pairs=_pairs(holders),
        kinds=[kind for context in holders for kind in _kinds(context, read)],
        metadata=first.metadata if first else {},
        descriptions=tuple(sorted({d.name.rpartition("/")[2] for d in described})),
        quantize=str(config.value.get("quantize") or "") if config else "",
        model_dtype=checkpoint.model_dtype,
        directory=str(checkpoint.path),
        model_types=config.model_types if config else (),
        config=config.members if config else {},
        container=container_of(checkpoint),
        alone=PARTS if checkpoint.profile.name == "SC" and not checkpoint.parts else "",
    )


def container_of(checkpoint: "Checkpoint") -> str:
    """How the files of a directory lie."""
    if checkpoint.parts:
        return PARTS
    profile = checkpoint.profile.name
    return {"SH310": RANKS, "OFF": OFFLINE}.get(profile or "", FLAT)


def _pairs(contexts: Sequence["Context"]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for context in contexts:
        for name, label in context.labels.items():
            if name.endswith(".weight"):
                pair = label, layer_kind(name)
                if pair in found or len(found) < MOST:  # a hostile file has a million labels
                    found[pair] += 1
    return dict(found)


def _kinds(context: "Context", read: bool) -> Iterator[Kind]:
    for cls in context.classes:
        label = label_of(cls, context.profile)
        members: dict[tuple[str, str], list[str]] = {}
        for member in cls.members:
            key = layer_kind(member + "."), member.rpartition(".")[2]
            members.setdefault(key, []).append(member)
        rules = rules_of(label, context.profile) if label else None
        env = layout.bind(rules, cls.shapes).env if rules else {}
        for (layer, leaf), names in members.items():
            nonzero = _nonzero(context, cls, names) if read else None
            yield Kind(label, layer, cls.shapes, env, names, leaf, nonzero)


def _nonzero(
    context: "Context", cls: "ModuleClass", members: Sequence[str]
) -> frozenset[str] | None:
    """Offsets and biases of the class that are not all zero; None where some are not asked for."""
    found = set()
    for suffix in _READ:
        if suffix in cls.tensors:
            names = [f"{member}.{suffix}" for member in members]
            asked = [name for name in names if context.checkpoint.is_asked(name)]
            if any(_is_nonzero(context, name) for name in asked):
                found.add(suffix)
            elif len(asked) < len(names):
                return None
    return frozenset(found)


def _is_nonzero(context: "Context", tensor: str) -> bool:
    try:
        with np.errstate(all="ignore"):  # a signalling NaN is not 0 either
            return bool(np.any(context.checkpoint.tensor(tensor)))
    except CheckpointError:
        return False  # IDX-001 says so
