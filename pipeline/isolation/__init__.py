"""Child processes for native readers and decoders that inputs may crash, hang or exhaust."""
