import torch

from restyle.core.networks.progressive import styles_from_deltas
from restyle.core.networks.small_encoder import (
    SmallBackboneEncoder,
    SmallEncoderConfig,
    SmallProgressiveBackboneEncoder,
)


def test_rows_are_w0_plus_their_difference_up_to_the_stage() -> None:
    rows = torch.randn(2, 5, 3)
    for stage in (None, 0, 2, 4, 9):
        result = styles_from_deltas(rows, stage)
        for row in range(5):
            counts = row > 0 and (stage is None or row <= stage)
            expected = rows[:, 0] + (rows[:, row] if counts else 0)
            assert torch.equal(result[:, row], expected)


def test_later_differences_get_no_gradient() -> None:
    rows = torch.randn(1, 4, 2, requires_grad=True)
    styles_from_deltas(rows, 1).square().sum().backward()
    assert rows.grad is not None
    assert rows.grad[:, 2:].abs().max() == 0
    assert rows.grad[:, :2].abs().min() > 0


def test_the_small_encoder_with_e4e_heads() -> None:
    config = SmallEncoderConfig(6, 32, widths=(16, 16, 16, 32), depths=(1, 1, 1, 1), fine_width=16)
    independent, progressive = SmallBackboneEncoder(config), SmallProgressiveBackboneEncoder(config)
    progressive.load_state_dict(independent.state_dict())
    x = torch.rand(2, 6, 64, 64) * 2 - 1
    with torch.no_grad():
        rows = independent(x)
        torch.testing.assert_close(progressive(x), styles_from_deltas(rows, None))
        progressive.progressive_stage = 2
        torch.testing.assert_close(progressive(x), styles_from_deltas(rows, 2))
        progressive.progressive_stage = None
        progressive.clear_differences()
        torch.testing.assert_close(progressive(x), rows[:, :1].expand(-1, 6, -1))
