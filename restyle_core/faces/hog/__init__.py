"""dlib's frontal detector: histograms of oriented gradients, on a pyramid of levels."""
