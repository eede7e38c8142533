"""dlib's convolutional face detector in PyTorch (max-margin object detection, 1502.00046)."""
