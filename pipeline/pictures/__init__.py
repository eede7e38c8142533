"""Pictures from latents and reconstructions: strips, grids, moving pictures, plots."""
