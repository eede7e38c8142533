"""Export of latents into folders of other libraries' formats."""
