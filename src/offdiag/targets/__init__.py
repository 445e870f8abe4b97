"""Which network gives the target of a predictive method."""
