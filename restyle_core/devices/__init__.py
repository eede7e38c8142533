"""Devices: hardware, precision, memory, threads, CUDA graphs."""
