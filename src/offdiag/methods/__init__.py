"""One readable file for each self-supervised method."""
