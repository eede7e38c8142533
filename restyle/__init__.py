"""ReStyle: image collections to StyleGAN latents.

The rooms of the project are links in this folder, so that they have one name in a checkout and
installed: ``restyle.kernels``, ``restyle.core``, ``restyle.pipeline`` and ``restyle.jobs``.
"""
