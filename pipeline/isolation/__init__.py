"""Processes of their own for what inputs may crash, hang or swell: native readers and decoders."""
