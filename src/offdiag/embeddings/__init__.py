"""Embeddings from anywhere, read in pieces: files of five kinds, and arrays in memory."""
