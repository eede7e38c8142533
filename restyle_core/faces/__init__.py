"""Detection, alignment and recognition of faces with dlib's networks."""
