"""One plain training loop and what it needs."""
