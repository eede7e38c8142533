"""An encoder prepared for inference: norms folded, layers fused."""
