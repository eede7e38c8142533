"""The format of an output on disk: schemas, settings, manifest and ledger entries."""
