"""Marks: numbers that separate causes, read from a training step without changing it.

A mark has a name such as "target/gradient" and a float. Each file measures one kind.
"""
