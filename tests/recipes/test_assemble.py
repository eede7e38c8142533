"""A run's encoder is put into an existing model; everything else of it stays."""

import json
from pathlib import Path

import torch

from recipes.faces64.assemble import main
from restyle.core.inference.model import load_model
from restyle.core.networks.config import EncoderKind, embedded_models, read_config


def test_an_encoder_joins_a_model(tmp_path: Path) -> None:
    model = embedded_models()["faces64"]
    known = load_model("faces64:restyle-psp", device="cpu", dtype="fp32")
    spec = {"name": "t", "generator": "g", "crops": ["c"], "schedule": {"images": 1}, "e4e": {}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(json.dumps(spec))
    run = {"average": known.encoder.state_dict(), "latent_avg": known.latent_avg}
    torch.save(run, tmp_path / "run" / "checkpoint.pt")
    main(model, tmp_path / "out", [f"another={tmp_path / 'run'}"])
    before, after = read_config(model), read_config(tmp_path / "out")
    assert after.encoders.pop("another").kind is EncoderKind.SMALL_PROGRESSIVE_BACKBONE
    assert after == before
    assert (tmp_path / "out" / "README.md").read_bytes() == (model / "README.md").read_bytes()
    directions = sorted(path.name for path in (model / "directions").iterdir())
    assert sorted(path.name for path in (tmp_path / "out" / "directions").iterdir()) == directions
    joined = load_model(f"{tmp_path / 'out'}:another", device="cpu", dtype="fp32")
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        rows = known.encode(x, x)
        expected = torch.cat([rows[:, :1], rows[:, :1] + rows[:, 1:]], 1)
        torch.testing.assert_close(joined.encode(x, x), expected, atol=1e-5, rtol=1e-4)
