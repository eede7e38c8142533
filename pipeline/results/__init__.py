"""Reading what was written: latents, SQL, nearest neighbours, single faces."""
