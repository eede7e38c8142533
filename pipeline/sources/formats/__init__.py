"""The formats that inputs come in, one file for each part of a format."""
