"""What an engine makes of the model: its type, how its files lie, its names, its biases."""

from collections.abc import Iterator, Sequence

from slimcheck.consumers import Choice
from slimcheck.consumers_facts import Biases, Containers, Feature, Models, Names
from slimcheck.verdicts_seen import Kind, Seen
from slimcheck.verdicts_words import OK, Says
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip
from slimspec.pipeline.shard_map import ShardMap, choose_map, last

_FLOAT = "FLOAT"


def model_facts(choice: Choice, seen: Seen, soc: str) -> Iterator[Says]:
    """Everything about the model as a whole that is not as the engine has it."""
    engine = choice.consumer
    for models in engine.models:
        yield from _type(choice, models, seen, soc)
    yield from _container(choice, seen, soc)
    for names in engine.names:
        if engine.holds(names.when, choice.version, soc):
            yield from _names(names, seen)
    for feature in engine.features:
        if engine.holds(feature.when, choice.version, soc):
            yield from _feature(feature, seen)
    for biases in engine.biases:
        if engine.holds(biases.when, choice.version, soc):
            yield from _biases(biases, seen)


def _type(choice: Choice, fact: Models, seen: Seen, soc: str) -> Iterator[Says]:
    """Silent where config.json states no model_type: CFG and DIR speak of that."""
    stated = seen.model_types if fact.nested else seen.model_types[:1]
    engine = choice.consumer
    if not stated or not _concerns(fact.labels, fact.layers, seen):
        return
    having = [known.when for known in fact.known if not set(stated).isdisjoint(known.types)]
    if any(engine.holds(when, choice.version, soc) for when in having):
        return
    able = [v for v in engine.versions if any(engine.holds(when, v, soc) for when in having)]
    elsewhere = f"; {able[0]} to {able[-1]} have it" if able else ""
    found = " with ".join(clip(name, 60) for name in stated)
    yield Says(fact.verdict, f"model_type {found}: {fact.effect}{elsewhere}")


def _concerns(labels: Sequence[str], layers: Sequence[str], seen: Seen) -> bool:
    if not labels and not layers:
        return True
    return any(
        (label in labels if labels else label != _FLOAT) and (not layers or layer in layers)
        for label, layer in seen.pairs
    )


def _container(choice: Choice, seen: Seen, soc: str) -> Iterator[Says]:
    """The first fact about the labels that are there decides."""
    for fact in choice.consumer.containers:
        about = not fact.labels or not seen.labels.keys().isdisjoint(fact.labels)
        if about and choice.consumer.holds(fact.when, choice.version, soc):
            yield from _lies(fact, seen)
            return


def _lies(fact: Containers, seen: Seen) -> Iterator[Says]:
    if seen.container in fact.containers:
        return
    if seen.alone and seen.alone in fact.containers:
        yield Says(OK, f"one of the {seen.alone}, judged alone: {fact.effect}")
    else:
        yield Says(fact.verdict, f"{seen.lie}: {fact.effect}")


def _names(fact: Names, seen: Seen) -> Iterator[Says]:
    """One example is said of each fact: with one name the others are wrong as well."""
    shards = _map(fact.tp_map, seen)
    kinds = [k for k in seen.kinds if not fact.labels or k.label in fact.labels]
    modules = [module for kind in kinds for module in kind.members]
    together = frozenset(modules)
    for module in modules:
        if fact.foreign is not None and fact.foreign.match(module):
            yield Says(fact.verdict, f"{clip(module)}: {fact.effect}")
            return
        asked = _asked(shards, module, together) if shards else module
        if asked != module:
            yield Says(fact.verdict, f"{clip(module)}: {fact.effect} {clip(asked)}")
            return


def _map(consumer: str, seen: Seen) -> ShardMap | None:
    if not consumer or not seen.model_types:
        return None
    try:
        return choose_map(consumer, seen.model_types[0])
    except CheckpointError:
        return None  # nothing is known of the names of this model


def _asked(shards: ShardMap, module: str, together: frozenset[str]) -> str:
    """The name under which an engine looks for what `module` holds.

    A group of which `together` has only some members stays apart, as it has several types.
    """
    name = f"{module}."
    for old, new in shards.pairs:
        name = name.replace(old, new, 1)
    name = name.removesuffix(".")
    fused = shards.member_of(module)
    parent = module.removesuffix(last(module))
    if fused is None or any(parent + member not in together for member in shards.fuse[fused]):
        return name
    return name.removesuffix(last(name)) + fused


def _feature(fact: Feature, seen: Seen) -> Iterator[Says]:
    if not seen.config.get(fact.config):
        return
    for kind in seen.kinds:
        about = kind.label and kind.leaf in fact.modules and "weight" in kind.shapes
        if about and kind.label not in fact.labels:
            yield Says(fact.verdict, f"{kind.leaf} is {kind.label}: {fact.effect}")


def _biases(fact: Biases, seen: Seen) -> Iterator[Says]:
    if set(fact.types).isdisjoint(seen.model_types):
        return
    having = {m for key, found in fact.unless.items() if seen.config.get(key) for m in found}
    for kind in seen.kinds:
        lost = kind.leaf in fact.without and kind.leaf not in having
        if lost and "bias" in kind.shapes and kind.label not in fact.folded:
            yield from _dropped(fact, kind)


def _dropped(fact: Biases, kind: Kind) -> Iterator[Says]:
    where = f"bias of {kind.leaf} ({kind.label})"
    if kind.nonzero is None:
        yield Says(OK, f"{where} was not read; where it is not zero, {fact.effect}")
    elif "bias" in kind.nonzero:
        yield Says(fact.verdict, f"{where}: {fact.effect}")
