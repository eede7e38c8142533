"""The generator's hot operators: plain PyTorch definitions, and compiled versions that agree.

``reference`` defines them. ``operators`` are torch custom operators with gradients that run C++ on
the CPU and CUDA on GPUs, from ``csrc/``; ``layers`` are those of inference. ``choice`` says which
are meant, ``toolchain`` finds a compiler, ``build`` keeps what it makes in a cache, and ``native``
loads it when an operator is first used; importing compiles nothing.
"""

from restyle.former_names import warn_of_former_name

warn_of_former_name(__name__, "restyle.kernels")
