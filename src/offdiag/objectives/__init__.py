"""Losses, one small file each; see `offdiag.registry` for the list."""
