"""Pictures in and out: decoding, preprocessing, animation, video."""
