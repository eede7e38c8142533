"""Ranger, the optimizer of pSp and ReStyle: RAdam, lookahead and gradient centralization."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Ranger(torch.optim.RAdam):
    """Rectified Adam (1908.03265) with lookahead and gradient centralization.

    Gradient centralization (2004.01461) subtracts from the gradient of a weight with several axes
    its mean over all axes but the first. Lookahead (1907.08610) computes every ``lookahead`` steps
    ``slow += alpha * (fast - slow); fast = slow``.

    Args:
        params: parameters to optimize.
        lr: learning rate.
        betas: of Adam.
        eps: of Adam.
        lookahead: fast steps per slow step.
        alpha: step size of the slow weights.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        lookahead: int = 6,
        alpha: float = 0.5,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, foreach=True)
        self.lookahead = lookahead
        self.alpha = alpha

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one step; the slow weights are part of the optimizer's state."""
        parameters = [
            p for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        starts = {p: p.detach().clone() for p in parameters if "slow" not in self.state[p]}
        for parameter in parameters:
            gradient: Tensor = parameter.grad
            if gradient.dim() > 1:
                gradient.sub_(gradient.mean(dim=tuple(range(1, gradient.dim())), keepdim=True))
        result = super().step(closure)
        for parameter in parameters:
            state = self.state[parameter]
            if parameter in starts:
                state["slow"] = starts[parameter]
            if int(state["step"]) % self.lookahead == 0:
                state["slow"].lerp_(parameter, self.alpha)
                parameter.copy_(state["slow"])
        return result
