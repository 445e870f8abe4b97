"""The theory lab as one page that computes everything itself."""
