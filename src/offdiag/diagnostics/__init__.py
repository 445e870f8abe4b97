"""Formulas that read a representation or a head: pure functions, no loop."""
