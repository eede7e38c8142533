"""What belongs to the output, and so is no input although it lies where the inputs do."""

from __future__ import annotations

from dataclasses import dataclass

REPORT_FILE = "report.html"
"""The page that a run ends with."""

OUTPUT_NAMES = frozenset(
    {
        "latents",
        "steps",
        "reconstructions",
        "rejects",
        "_ledger",
        "_set-aside",
        "run.json",
        REPORT_FILE,
    }
)
"""What this project writes at the top of an output; never taken for an input."""


@dataclass(frozen=True)
class Barred:
    """Tells which paths or URIs belong to the output.

    Attributes:
        out: the output, or None when it cannot overlap with the input.
        base: the folder that is listed.
    """

    out: str | None
    base: str

    def __call__(self, path: str) -> bool:
        """Whether a path or URI is part of the output."""
        if self.out is None:
            return False
        out, base = self.out.rstrip("/"), self.base.rstrip("/")
        if path != out and not path.startswith(out + "/"):
            return False
        # An output inside the input is skipped whole. When the inputs live inside the output's
        # folder, only what this project wrote there is.
        return out.startswith(base + "/") or (
            path[len(out) + 1 :].partition("/")[0] in OUTPUT_NAMES
        )
