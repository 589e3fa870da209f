"""Print which requirement each invalid golden checkpoint trips, and the share that is caught.

    python -m benchmarks.mutation_score [--chapter DIR]

One row per requirement: the cases made for it, and the ids that fall with it. A case is caught if
the judge reports the requirement it is made for and, beside that, exactly what the case states.
A requirement without a check is listed with the reason that the catalogue gives. The command
fails below 100 %.
"""

import argparse
from collections.abc import Iterable

from slimcheck.catalogue import unchecked
from slimcheck.mutations import Mutation, mutations
from slimspec import requirements


def row(requirement: str, cases: list[Mutation]) -> str:
    """Return the cells of one requirement."""
    verdict = "caught" if cases and all(case.caught for case in cases) else "NOT CAUGHT"
    return f"{requirement:<11}{verdict:<11}{', '.join(map(_shown, cases)) or 'no case'}"


def _shown(mutation: Mutation) -> str:
    with_ids = f" (with {', '.join(mutation.consequences)})" if mutation.consequences else ""
    wrong = "" if mutation.caught else " !"
    return f"{mutation.case.id}{with_ids}{wrong}"


def by_requirement(found: Iterable[Mutation]) -> dict[str, list[Mutation]]:
    """Return the mutations made for each requirement of the catalogue."""
    made: dict[str, list[Mutation]] = {key: [] for key in requirements.load()}
    for mutation in found:
        made[mutation.requirement].append(mutation)
    return made


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chapter", help="only requirements of this chapter, such as W8A8")
    chapter = parser.parse_args(arguments).chapter
    reasons, catalogue = unchecked(), requirements.load()
    made = by_requirement(mutations())
    chosen = [k for k in made if k not in reasons and chapter in (None, catalogue[k].chapter)]
    caught = [k for k in chosen if made[k] and all(case.caught for case in made[k])]
    for requirement in chosen:
        print(row(requirement, made[requirement]))
    for requirement, reason in reasons.items():
        print(f"{requirement:<11}no check   {reason}")
    count = sum(len(made[key]) for key in chosen)
    alone = sum(not case.consequences for key in chosen for case in made[key])
    print(f"\n{count} mutations, {alone} of them trip one requirement alone")
    print(f"score: {len(caught)} of {len(chosen)} requirements, {len(caught) / len(chosen):.1%}")
    return int(len(caught) < len(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
