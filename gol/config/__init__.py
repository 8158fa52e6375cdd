"""Experiments, datasets and pipelines: axes in, one resolved config out."""
