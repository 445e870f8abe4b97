"""Complete runs: settings, the parts they choose, and what is written to a run directory."""
