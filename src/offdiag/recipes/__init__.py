"""Named complete runs."""
