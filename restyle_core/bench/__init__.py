"""How fast inversion is, against a plain implementation and against bare convolutions."""
