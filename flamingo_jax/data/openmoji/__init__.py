"""OpenMoji drawings with their names, as a TensorFlow Datasets builder."""
