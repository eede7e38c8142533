"""Summary of a benchmark in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from restyle.core.bench.measure import FAST, PLAIN, Finding, Row


def summary(findings: Sequence[Finding]) -> list[str]:
    """Compare the loops at their best batch sizes, and the latents, of one benchmark."""
    lines = []
    plain = [finding for finding in findings if finding.rows[0].path == PLAIN]
    fast = [finding for finding in findings if finding.rows[0].path == FAST]
    for dtype in dict.fromkeys(finding.rows[0].dtype for finding in fast):
        own = [finding for finding in fast if finding.rows[0].dtype == dtype]
        best = _best_loop(own)
        line = f"{dtype}: {best.timing.median:.3f} s an image at batch {best.batch}"
        if best.bare:
            line += f", {best.timing.median / best.bare:.2f} times its bare convolutions"
        if plain:
            slow = _best_loop(plain)
            line += (
                f"; {slow.timing.median / best.timing.median:.1f} times as fast as plain fp32 "
                f"({slow.timing.median:.3f} s at batch {slow.batch})"
                f"; latents differ by at most {_difference(own, plain):.1e}"
            )
        lines.append(line)
    return lines


def _best_loop(findings: Iterable[Finding]) -> Row:
    loops = [row for finding in findings for row in finding.rows if row.stage == "loop"]
    return min(loops, key=lambda row: row.timing.median)


def _difference(ours: Iterable[Finding], theirs: Iterable[Finding]) -> float:
    """Largest absolute difference between latents at the same batch size."""
    expected = {finding.rows[0].batch: finding.latents for finding in theirs}
    return max(
        float((finding.latents - expected[finding.rows[0].batch]).abs().max()) for finding in ours
    )
