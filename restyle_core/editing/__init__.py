"""Moving latents along directions, and finding directions."""
