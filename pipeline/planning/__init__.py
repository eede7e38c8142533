"""Planning: add the new and changed inputs of a listing to the manifest, as units."""
