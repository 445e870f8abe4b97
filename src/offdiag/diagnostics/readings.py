"""The readings that a run records, gathered from the formulas beside this file."""

from offdiag._types import Covariance, Embeddings
from offdiag.diagnostics import spectrum as spectral
from offdiag.diagnostics import weights
from offdiag.results.readings import HeadReadings, Readings

KEPT_EIGENVALUES = 256


def read_embeddings(embeddings: Embeddings) -> Readings:
    """All readings of one part's output; one eigendecomposition serves those that need it."""
    shares = spectral.spectrum(spectral.covariance(embeddings))
    return Readings(
        dim=embeddings.shape[1],
        effective_rank=spectral.effective_rank_of_shares(shares).item(),
        rankme=spectral.rankme(embeddings).item(),
        std=spectral.normalised_std(embeddings).item(),
        top_share=shares[0].item(),
        spectrum=tuple(shares[:KEPT_EIGENVALUES].tolist()),
    )


def read_head(weight: Covariance) -> HeadReadings:
    """All readings of a head's matrix."""
    return HeadReadings(
        off_diagonal_norm=weights.off_diagonal_norm(weight).item(),
        asymmetry=weights.asymmetry(weight).item(),
        identity_distance=weights.identity_distance(weight).item(),
    )
