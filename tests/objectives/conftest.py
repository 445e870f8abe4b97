"""Batches on which the laws of the objectives can be written down."""

import pytest
import torch

N, DIM = 64, 8


@pytest.fixture
def batch(generator):
    return torch.randn(N, DIM, generator=generator, dtype=torch.float64)


@pytest.fixture
def other(generator):
    torch.randn(N, DIM, generator=generator)
    return torch.randn(N, DIM, generator=generator, dtype=torch.float64)


@pytest.fixture
def frame(batch):
    """A tight frame whose rows have length 1: repeated orthonormal bases."""
    basis, _ = torch.linalg.qr(batch[:DIM])
    return basis.repeat(N // DIM, 1)


@pytest.fixture
def white(batch):
    """Columns of mean 0, variance 1 (divided by n) and no correlation."""
    centred = batch - batch.mean(0)
    columns, _ = torch.linalg.qr(centred)
    return columns * N**0.5
