"""``restyle repair`` says first, and does when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipeline.fabricated import Made, fabricate
from tests.warm_command import restyle


def test_it_says_what_it_would_do_and_does_it_when_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fabricate(out, Made(faces=12, unit=5))
    sound = restyle("repair", out)
    assert (sound.returncode, sound.stdout) == (0, "nothing to repair\n")
    settings = out / "_ledger" / "settings.json"
    lost = settings.read_bytes()
    settings.unlink()
    (path,) = (out / "latents").glob("part-000001-*")
    path.write_bytes(path.read_bytes()[:100])
    refused = [restyle(*command) for command in (("status", out), ("verify", out))]
    assert {each.returncode for each in refused} == {2}
    assert len({each.stderr for each in refused}) == 1
    said = restyle("repair", out)
    assert said.returncode == 1
    assert not settings.exists()
    done = restyle("repair", out, "--yes")
    assert done.returncode == 0
    assert settings.read_bytes() == lost
    *changes, summary = said.stdout.splitlines()
    assert summary == "5 changes would be made; restyle repair --yes does so"
    assert done.stdout.splitlines()[:5] == changes
    assert not path.exists()
    verification = restyle("verify", out)
    assert verification.returncode == 1
    assert "5 inputs in 1 unit are not done" in verification.stdout
    assert "1 problem;" in verification.stdout
    assert restyle("repair", out).stdout == "nothing to repair\n"


@pytest.mark.parametrize("words", [(), ("--yes",)])
def test_what_is_no_output_is_not_called_sound(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    for name in ("missing", "photos"):
        refused = restyle("repair", tmp_path / name, *words)
        assert (refused.returncode, refused.stdout) == (2, "")
        said = f"error: {tmp_path / name} holds no output of restyle (it has no _ledger)"
        assert refused.stderr.startswith(said)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jpg", "photos"]
