"""Flamingo-style visual language models in JAX."""
