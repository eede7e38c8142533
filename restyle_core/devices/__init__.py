"""Where and how to compute: hardware, memory, threads, CUDA graphs."""
