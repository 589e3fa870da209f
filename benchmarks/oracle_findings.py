"""Explain what the judge says of the producer's recorded checkpoints.

    python -m benchmarks.oracle_findings [--page docs/findings.md]

Every directory with a description below $SLIMSPEC_ORACLE (default ../shared/oracle) is judged. Each
requirement that is reported has its explanation in EXPLANATIONS, which holds for every directory
with that property; the command fails if one has none, or if a finding counts against a directory
that is no placeholder.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle"))

from oracle_replay import find_cases, oracle_root

from slimcheck.catalogue import anchor, plain, table
from slimcheck.run import run
from slimspec import requirements

COMMAND = "python -m benchmarks.oracle_findings --page docs/findings.md"

EXPLANATIONS = {
    "CFG-001": (
        "True. These types are for other engines: MindIE's ATB models have no FP8, FP4 or 4-bit "
        "activation type, and refuse `float` as the effective quantize: of a directory whose only "
        "quantized part is the KV cache or nothing at all (outlier suppression without "
        "quantization), and of the labels that DESC-039 names."
    ),
    "CFG-003": (
        "True. The MX formats have blocks of 32, and a recipe may ask for groups of 32; MindIE's "
        "list of group sizes lacks 32."
    ),
    "DEQ-005": (
        "True. The MindIE form has F32 deq_scale for every model; vllm-ascend copies those of a "
        "float16 model by value into integers."
    ),
    "DESC-039": (
        "True. The producer ranks labels to name the model and has no rank for W4A8_DYNAMIC and "
        "W4A8_FLATQUANT_DYNAMIC: a model of nothing else is called FLOAT, which MindIE refuses as "
        "CFG-001 says."
    ),
    "DIR-011": (
        "True of the recordings: the traditional API and the compressor save weights and "
        "description only. The user's script copies config.json."
    ),
    "DIR-012": "As DIR-011: nobody copied the tokenizer.",
    "FQ-007": (
        "True. FlatQuant pairs the factors of k for one rank, vllm-ascend computes those of "
        "o_proj and down_proj from k / max_supported_tp, and its default for that is 4."
    ),
    "KV-003": (
        "True. The run calibrated the cache asymmetrically; the ATB models take the bytes of the "
        "offset as int8, and right are those of zero only."
    ),
    "KV-005": (
        "True. The recipe left the cache of some layers out; engines have one cache dtype for all "
        "layers and run the rest with a scale of 1."
    ),
    "MX-002": (
        "True. The float model has a k that is no multiple of 64: the producer writes an odd "
        "number of blocks or a last one that is not whole, the kernel of the engine takes pairs of "
        "whole blocks."
    ),
    "MX-009": "True. The producer says WFP8AFP8_DYNAMIC, vllm-ascend knows W8A8FP8_DYNAMIC only.",
    "NUM-006": (
        "True. The run asked for a quantized lm_head, or head of a prediction layer; MindIE's "
        "runtime loads it as a float."
    ),
    "NUM-007": (
        "True. The recipe included the routers; their rounding changes which experts are chosen, "
        "and engines load them as floats."
    ),
    "PACK-002": (
        "True. The run left some members of a fused group FLOAT and quantized others: engines that "
        "fuse them stop."
    ),
    "RED-004": (
        "True. The legacy form never writes reduce_quant_type, and MindIE ignores the scales of "
        "communication unless it is told."
    ),
    "SC-008": "True of a placeholder: its weight bytes are not compressed, so nothing was gained.",
    "SC-009": (
        "True, and counts: the recorded container holds a placeholder instead of a stream, its "
        "index is zero. Names, dtypes, labels and info are real and pass."
    ),
    "W4A16-011": "True. vllm-ascend has W4A16 for the LLM-Compressor layout only.",
    "W4A8-014": "True. vllm-ascend no longer reads W4A8 with scales in groups.",
    "W4A8-018": (
        "True. MindIE's ATB models expect weight_scale_second in dense linears; the newer "
        "producer writes scales per row."
    ),
    "W8A8-009": "True. With mm_tensor one scale serves the matrix; engines want one per row.",
    "W8A8-021": (
        "True. deq_scale of a bfloat16 model, and of every model in the MindIE form, is F32; the "
        "310P takes I64 only, and it has no bfloat16 either."
    ),
    "W8A8-027": ("True. Some channels have a product of scales below the normal range of float16."),
}

PLACEHOLDERS = ("SC-009",)  # what counts against a directory that stands for another


@dataclass
class Seen:
    """Where one requirement is reported."""

    directories: list[str] = field(default_factory=list)
    counts: bool = False
    example: str = ""


def survey(root: Path) -> tuple[int, dict[str, Seen]]:
    """Judge every recorded directory; return how many there are, and what is reported."""
    found: dict[str, Seen] = {}
    judged = 0
    for name, directory in _directories(root):
        judged += 1
        for result in run(directory).failed:
            seen = found.setdefault(result.requirement.id, Seen())
            group = result.groups[0]
            seen.directories.append(name)
            seen.counts |= result.counts
            where = f"{group.pattern or group.file}: ".removeprefix(": ")
            seen.example = seen.example or f"{where}{group.found}; expected {group.expected}"
    return judged, dict(sorted(found.items()))


def _directories(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, directory) of everything with a description; older runs have two forms."""
    for case in find_cases(root):
        descriptions = (case / "quant").rglob("quant_model_description*.json")
        for directory in sorted({path.parent for path in descriptions}):
            form = directory.relative_to(case / "quant").as_posix()
            yield case.name + ("" if form == "." else f"/{form}"), directory


def unexplained(found: dict[str, Seen]) -> list[str]:
    """Return the ids that are reported without an explanation."""
    return [key for key in found if key not in EXPLANATIONS]


def violations(found: dict[str, Seen]) -> list[str]:
    """Return the ids that count against a directory, other than those of a placeholder."""
    return [key for key, seen in found.items() if seen.counts and key not in PLACEHOLDERS]


def page(judged: int, found: dict[str, Seen]) -> str:
    """Return the text of docs/findings.md."""
    return "\n".join(_page(judged, found)) + "\n"


def _page(judged: int, found: dict[str, Seen]) -> Iterator[str]:
    yield "# What the judge says of real exports"
    yield ""
    yield f"<!-- Generated by `{COMMAND}`; do not edit. -->"
    yield ""
    yield f"{judged} directories that msModelSlim wrote were judged at level values. They violate"
    yield "no requirement that binds their producer, except the placeholder that SC-009 names. What"
    yield "is left are requirements of engines, and recommendations. Each was looked at:"
    yield ""
    rows = []
    for key, seen in found.items():
        level = "counts" if seen.counts else "noted"
        others = f" and {len(seen.directories) - 1} more" if len(seen.directories) > 1 else ""
        title = plain(requirements.load()[key].title)
        rows.append((f"[{key}]({anchor(key)})", title, f"{seen.directories[0]}{others}", level,
                     plain(seen.example), EXPLANATIONS.get(key, "**not explained**")))  # fmt: skip
    yield from table(("requirement", "asks", "where", "weight", "example", "explanation"), rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", metavar="FILE", type=Path, help="renew that page")
    target = parser.parse_args(arguments).page
    if not oracle_root().is_dir():
        parser.error(f"no oracle at {oracle_root()}; set SLIMSPEC_ORACLE")
    judged, found = survey(oracle_root())
    if target is None:
        for key, seen in found.items():
            print(f"{key:<11}{len(seen.directories):>4}  {'counts' if seen.counts else 'noted':<7}"
                  f"{EXPLANATIONS.get(key, 'NOT EXPLAINED')}")  # fmt: skip
    else:
        target.write_text(page(judged, found), encoding="utf-8")
    missing, counted = unexplained(found), violations(found)
    print(f"{judged} directories, {len(found)} requirements reported, {len(missing)} not explained"
          f", {len(counted)} violated")  # fmt: skip
    return int(bool(missing or counted))


if __name__ == "__main__":
    raise SystemExit(main())
