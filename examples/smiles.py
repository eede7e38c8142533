"""Edit the faces of a finished run along a direction, and measure what changed.

::

    python examples/smiles.py OUT EDITS

OUT holds an inversion, as collection.py makes it.
"""

from __future__ import annotations

import sys

import restyle

STRENGTHS = (-2.0, 0.0, 2.0)


def main(out: str, edits: str) -> None:
    """Write the edits as a dataset and print its means."""
    smile = restyle.Move("smile", STRENGTHS)
    outcome = restyle.edit(restyle.EditRequest(out, edits, [smile]))
    summary = outcome.summary
    print(f"{summary.faces} faces, each edited to {len(STRENGTHS)} strengths in {edits}")
    for edit, (strength,) in enumerate(summary.combinations):
        change = summary.changes["smile"][edit]
        identity = summary.identity[edit]
        print(f"smile {strength:+.0f}: score {change:+.3f}, identity {identity:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
