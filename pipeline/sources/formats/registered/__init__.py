"""The built-in formats, one module each: how a format is recognised and which readers it uses."""
