"""Samples of any kind, in memory or streamed, and views of them made on the device."""
