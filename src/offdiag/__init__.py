"""Non-contrastive self-supervised learning: train it, watch it, explain it."""

__version__ = "0.1.0"
