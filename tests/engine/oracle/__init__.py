"""Tiny random checkpoints made with mlx-lm's own classes, and what mlx-lm computes with them."""
