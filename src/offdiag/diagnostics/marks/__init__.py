"""Marks: numbers that tell causes apart, read from a training step without changing it.

A mark has a name such as "target/gradient" and a float. Each file measures one kind.
"""
