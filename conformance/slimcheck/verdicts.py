"""What each consumer engine would do with the directory: one verdict per engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slimcheck.consumers import Choice, socs
from slimcheck.consumers_facts import ABSENT, PRESENT, RANKS, ZERO, Metadata, Tensor
from slimcheck.engine import Result, Status
from slimcheck.verdicts_model import model_facts
from slimcheck.verdicts_seen import Kind, Seen
from slimcheck.verdicts_words import FAILS, OK, UNKNOWN, WRONG, Says
from slimspec import layout
from slimspec.layout import LayoutError
from slimspec.layout.model import match_shape

_WORST_FIRST = (FAILS, WRONG, UNKNOWN)
_DTYPES = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Verdict:
    consumer: str
    verdict: str
    reasons: tuple[str, ...]  # requirement ids and sentences, of this verdict
    version: str = ""
    serve: str = ""  # how to start the engine; "" where it makes no sense
    notes: tuple[str, ...] = ()


def verdicts(
    results: Sequence[Result],
    seen: Seen,
    choices: Sequence[Choice],
    *,
    soc: str = "",
    tp: int | None = None,
) -> list[Verdict]:
    """One verdict per engine chosen.

    Args:
        results: what became of each requirement.
        seen: what the directory shows.
        soc: the chip that will serve; "" = any that the engine runs on.
        tp: number of tensor-parallel ranks, if known.
    """
    return [_verdict(choice, results, seen, soc, tp) for choice in choices]


def _verdict(
    choice: Choice, results: Sequence[Result], seen: Seen, soc: str, tp: int | None
) -> Verdict:
    said: dict[str, list[str]] = {}
    for verdict, reason in (*facts(choice, seen, soc), *_violated(choice, results)):
        said.setdefault(verdict, []).append(reason)
    notes = tuple(dict.fromkeys(said.pop(OK, ())))
    worst = next((verdict for verdict in _WORST_FIRST if verdict in said), OK)
    reasons = tuple(dict.fromkeys(said.get(worst, ())))
    serve = "" if worst in (FAILS, WRONG) else _serve(choice, seen, soc, tp)
    return Verdict(choice.asked, worst, reasons, choice.version, serve, notes)


def _violated(choice: Choice, results: Sequence[Result]) -> Iterator[Says]:
    """Violated MUSTs that bind the engine, then those of the format: what they do is not known."""
    for result in results:
        requirement = result.requirement
        if result.status is not Status.FAILED or requirement.level != "MUST":
            continue
        scope = requirement.scope
        if choice.consumer.binds(requirement.id, scope.consumers, choice.version):
            yield Says(scope.verdict, requirement.id)
        elif not scope.consumers:
            yield Says(UNKNOWN, requirement.id)


def facts(choice: Choice, seen: Seen, soc: str = "") -> Iterator[Says]:
    """Everything of the directory that is not as the engine has it."""
    yield from _description(choice, seen)
    yield from _dtype(choice, seen, soc)
    yield from _labels(choice, seen, soc)
    yield from model_facts(choice, seen, soc)
    for fact in choice.consumer.metadata:
        if choice.consumer.holds(fact.when, choice.version, soc):
            yield from _metadata(fact, seen)
    for kind in seen.kinds:
        if kind.label is not None and _loads(choice, kind.label, kind.layer, soc):
            yield from _allocated(choice, kind)
        for tensor in choice.consumer.tensors:
            if choice.consumer.holds(tensor.when, choice.version, soc):
                yield from _tensor(tensor, kind)


def _description(choice: Choice, seen: Seen) -> Iterator[Says]:
    names = choice.consumer.descriptions
    read = {name.format(quantize=seen.quantize.lower()) for name in names}
    if seen.descriptions and read.isdisjoint(seen.descriptions):
        lack = choice.consumer.no_description
        yield Says(lack.verdict, f"{', '.join(seen.descriptions)}: {lack.effect}")


def _dtype(choice: Choice, seen: Seen, soc: str) -> Iterator[Says]:
    """An engine that takes the dtype from config.json needs a SoC that computes in it."""
    if choice.consumer.dtype != "config.json" or seen.model_dtype not in _DTYPES:
        return
    here = [soc] if soc else choice.consumer.socs
    if not any(seen.model_dtype in socs()[name].dtypes for name in here):
        yield Says(FAILS, f"{soc} does not compute in {_DTYPES[seen.model_dtype]}")


def _loads(choice: Choice, label: str, layer: str, soc: str) -> bool:
    return any(
        label in fact.labels
        and layer in fact.layers
        and choice.consumer.holds(fact.when, choice.version, soc)
        for fact in choice.consumer.labels
    )


def _labels(choice: Choice, seen: Seen, soc: str) -> Iterator[Says]:
    engine = choice.consumer
    for label, layer in sorted(seen.pairs):
        if _loads(choice, label, layer, soc):
            needed = _socs(choice, label, layer)
            if not soc and set(needed) != set(engine.socs):
                yield Says(OK, f"{label} needs {' or '.join(needed)}")
            continue
        fate = engine.fate(layer, choice.version)
        elsewhere = _elsewhere(choice, label, layer)
        yield Says(fate.verdict, f"{label} ({layer}): {fate.effect}{elsewhere}")


def _socs(choice: Choice, label: str, layer: str) -> list[str]:
    engine = choice.consumer
    return [soc for soc in engine.socs if _loads(choice, label, layer, soc)]


def _elsewhere(choice: Choice, label: str, layer: str) -> str:
    """Where the same engine does load it: other SoCs, or other versions."""
    needed = _socs(choice, label, layer)
    if needed:
        return f"; {' or '.join(needed)} has"
    engine = choice.consumer
    able = [
        version
        for version in engine.versions
        if _loads(Choice(engine, version, ""), label, layer, "")
    ]
    if not able:
        return ""
    return f"; {able[0]} has" if len(able) == 1 else f"; {able[0]} to {able[-1]} have"


def _metadata(fact: Metadata, seen: Seen) -> Iterator[Says]:
    if fact.label and fact.label not in seen.labels:
        return
    found = seen.metadata.get(fact.key)
    if found is not None and found not in fact.values:
        yield Says(fact.verdict, f"{fact.key} {found}: {fact.effect}")


def _allocated(choice: Choice, kind: Kind) -> Iterator[Says]:
    """Tensors of another shape than the engine allocates, by the layout of the label."""
    assert kind.label is not None
    for suffix, asked in _buffers(kind.label, choice.consumer.layouts).items():
        shape = kind.shapes.get(suffix)
        if shape is None or not asked or not kind.env:
            continue
        if all(match_shape(formula, shape, kind.env) is None for formula in asked):
            wanted = " or ".join(f"[{', '.join(map(str, formula))}]" for formula in asked)
            found = f"{suffix} {list(shape)} of {kind.label} ({kind.layer})"
            yield Says(FAILS, f"{found}: allocates {wanted}")


def _buffers(label: str, engine: str) -> dict[str, tuple[tuple[str | int, ...], ...]]:
    """Suffix -> shapes that an engine allocates for a label."""
    try:
        described = layout.load(layout.base_label(label) or label)
    except LayoutError:
        return {}
    tensors = described.consumers.get(engine, {}).get("tensors", {})
    return {
        suffix: tuple(tuple(shape) for shape in tensor.get("shape", ()))
        for suffix, tensor in tensors.items()
        if tensor["reads"] != "ignored"
    }


def _tensor(fact: Tensor, kind: Kind) -> Iterator[Says]:
    about = (not fact.labels or kind.label in fact.labels) and (
        not fact.layers or kind.layer in fact.layers
    )
    if not about or (fact.modules and kind.leaf not in fact.modules):
        return
    shape = kind.shapes.get(fact.tensor)
    where = f"{fact.tensor} of {kind.label} ({kind.leaf if fact.modules else kind.layer})"
    if fact.must == PRESENT:
        if shape is None and "weight" in kind.shapes:
            yield Says(fact.verdict, f"no {where}: {fact.effect}")
    elif shape is None:
        return
    elif fact.must == ABSENT:
        yield Says(fact.verdict, f"{fact.tensor}: {fact.effect}")
    elif fact.must == ZERO:
        if kind.nonzero is None:
            yield Says(OK, f"{where} was not read; where it is not zero, {fact.effect}")
        elif fact.tensor in kind.nonzero:
            yield Says(fact.verdict, f"{where} is not zero: {fact.effect}")
    elif isinstance(fact.must, tuple) and match_shape(fact.must, shape, kind.env) is None:
        found = f"{fact.tensor} {list(shape)} of {kind.label} ({kind.layer})"
        yield Says(fact.verdict, f"{found}: {fact.effect}")


def _serve(choice: Choice, seen: Seen, soc: str, tp: int | None) -> str:
    here = socs()[soc or choice.consumer.socs[0]].dtypes
    dtype = seen.model_dtype if seen.model_dtype in here else "F16"
    stated = str(seen.metadata.get("model_quant_type") or "float").lower()
    quantize = seen.quantize or ("w8a8_pdmix" if stated == "w8a8_mix" else stated)
    text = choice.consumer.serve
    if tp is not None and choice.consumer.serve_tp:
        text = f"{text} {choice.consumer.serve_tp}"
    if seen.container == RANKS and choice.consumer.serve_ranks:
        text = f"{text} {choice.consumer.serve_ranks}"
    return text.format(
        dir=_shell(seen.directory), dtype=_DTYPES[dtype or "F16"], tp=tp, quantize=quantize,
        presence="present" if seen.quantize else "absent; it takes model_quant_type",
    )  # fmt: skip


def _shell(path: str) -> str:
    from shlex import quote

    return quote(path)
