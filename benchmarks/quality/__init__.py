"""What each variant of the method does to the picture: `python -m benchmarks.quality`."""
