"""What is promised on disk: schemas, settings, manifest, entries, and what stands of them."""
