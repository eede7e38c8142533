"""Reading of outputs: latents, SQL, nearest neighbours, single faces."""
