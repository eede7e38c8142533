"""Pictures from latents and reconstructions: strips, grids, animations, plots."""
