"""The generator's hot operators: plain PyTorch definitions and equivalent compiled versions.

``reference`` defines the operators. ``operators`` are torch custom operators with gradients that
run C++ on the CPU and CUDA on GPUs, from ``csrc/``; ``layers`` and ``encoder_layers`` are for
inference only. ``choice`` selects the implementation, ``toolchain`` finds a compiler, ``build``
caches compiled libraries, and ``native`` loads them on first use. Importing compiles nothing.
"""

from restyle.former_names import warn_of_former_name

warn_of_former_name(__name__, "restyle.kernels")
