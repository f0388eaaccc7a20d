"""A small TFDS data set."""
