"""offdiag inside other packages' loops; each file needs its package and says so."""
