"""Latents to edited faces: plan, edit, measure, and the proof."""
