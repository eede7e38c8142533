"""Invert a collection into a dataset, as ``restyle invert`` does, and ask the dataset.

::

    python examples/collection.py PHOTOS OUT

The same command again continues after an interruption, and takes in what is new.
"""

from __future__ import annotations

import sys

import restyle


def main(photos: str, out: str) -> None:
    """Run what is left to do, then print counts and the closest reconstructions."""
    settings = restyle.InversionSettings(model="faces64", faces="all", metrics=("l2", "lpips"))
    outcome = restyle.invert_images(restyle.Request(photos, out, settings))
    print(f"{outcome.images} inputs in this run, {outcome.summary.faces} faces in {out}")
    for reason, count in outcome.summary.rejects.items():
        print(f"{count} rejected: {reason}")

    rows, w = restyle.read_latents(out, ["source", "face", "lpips"])
    print(f"latents: {w.shape} {w.dtype}")
    print(rows.nsmallest(3, "lpips").to_string(index=False))

    sql = "select step, avg(lpips) as lpips from steps group by step order by step"
    for step in restyle.query(out, sql).read_all().to_pylist():
        print(f"step {step['step']}: lpips {step['lpips']:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
