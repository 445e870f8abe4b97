"""Results to charts; computes nothing."""
