"""Read the network pickles of NVIDIA's StyleGAN2 and StyleGAN2-ADA without running code."""
