"""A linear probe on frozen features."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from offdiag._precision import tensor_float32
from offdiag.evaluation.lbfgs import minimise

INVERSE_REGULARISATION = 1.0
MAX_ITERATIONS = 500
TOLERANCE = 1e-4
"""Largest entry of the mean loss's gradient at which the fit has converged."""

ROWS_AT_ONCE = 4096  # in float64

_CURVATURE = 0.5  # of the softmax's loss in its logits, at most (Boehning 1992)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Accuracy in [0, 1] on the held-out features, and whether the fit converged."""

    accuracy: float
    converged: bool


@torch.no_grad()
def linear_probe(
    train: Float[Tensor, "train dim"],
    train_labels: Int[Tensor, " train"],
    test: Float[Tensor, "test dim"],
    test_labels: Int[Tensor, " test"],
) -> Probe:
    """Multinomial logistic regression (L-BFGS, C = 1, at most 500 iterations).

    Minimises the sum of the cross-entropies plus |W|^2 / 2C, the bias not penalised: the
    objective of scikit-learn's LogisticRegression, also for two classes, which have one
    weight vector between them; the bound on the iterations and on the gradient are its too.
    Each feature is standardised by the mean and deviation of the training set. Computed on
    the features' device: products in float32, never in TensorFloat-32, sums and weights in
    float64. Deterministic where torch's products are: there is no seed.
    """
    mean, deviation = _moments(train)
    present, targets = torch.unique(train_labels, return_inverse=True)
    with tensor_float32(False, train.device):
        x = _standardised(train, mean, deviation)
        W, b, converged = _fitted(x, targets, len(present))
        y = _standardised(test, mean, deviation)
        logits = torch.addmm(b[:, None].float(), W.float(), y.T)
    accuracy = (present[logits.argmax(0)] == test_labels).double().mean()
    return Probe(accuracy=accuracy.item(), converged=converged)


def _fitted(
    x: Float[Tensor, "rows dim"], targets: Int[Tensor, " rows"], classes: int
) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, " classes"], bool]:
    """Weights and bias for every class, and whether they are at the minimum."""
    rows, dim = x.shape
    penalty = 1 / (INVERSE_REGULARISATION * rows)
    free = classes - 1 if classes == 2 else classes  # of two classes the first has logit 0
    targets = targets[None]

    def split(parameters: Tensor) -> tuple[Tensor, Tensor]:
        W, b = parameters[:, :-1], parameters[:, -1]
        return F.pad(W, (0, 0, classes - free, 0)), F.pad(b, (classes - free, 0))

    # Classes before rows throughout: on a CPU `x.T @ residual` takes twelve times as long as
    # its transpose, and a softmax over the last of two axes twenty times as long.
    def value_and_gradient(parameters: Tensor) -> tuple[Tensor, Tensor]:
        W, b = split(parameters)
        log_share = torch.log_softmax(torch.addmm(b[:, None].float(), W.float(), x.T), dim=0)
        loss = -log_share.gather(0, targets).double().mean() + penalty / 2 * W.square().sum()
        # The gradient in the logits is the share less 1 in the class itself.
        own = log_share.exp_().gather(0, targets)
        residual = log_share.scatter_(0, targets, own - 1)[classes - free :]
        slope = (residual @ x).double() / rows + penalty * W[classes - free :]
        return loss, torch.cat([slope, residual.double().mean(1, keepdim=True)], dim=1)

    # The Hessian is at most `_CURVATURE` times the features' second moment, for each class:
    # its inverse makes correlated features no harder to fit than uncorrelated ones.
    bound = _CURVATURE * (x.T @ x).double() / rows
    bound.diagonal().add_(penalty)
    root = torch.linalg.cholesky(bound + _floor(bound))

    def precondition(gradient: Tensor) -> Tensor:
        scaled = torch.cholesky_solve(gradient[:, :-1].T, root).T
        return torch.cat([scaled, gradient[:, -1:] / _CURVATURE], dim=1)

    parameters, converged = minimise(
        value_and_gradient,
        torch.zeros(free, dim + 1, dtype=torch.float64, device=x.device),
        precondition=precondition,
        tolerance=TOLERANCE,
        iterations=MAX_ITERATIONS,
    )
    return *split(parameters), converged


def _moments(
    rows: Float[Tensor, "rows dim"],
) -> tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]]:
    """Mean and deviation (over n) of each feature; 1 for one that is constant but for rounding."""
    pieces = torch.split(rows, ROWS_AT_ONCE)
    mean = torch.stack([piece.double().sum(0) for piece in pieces]).sum(0) / len(rows)
    squares = [(piece.double() - mean).square_().sum(0) for piece in pieces]
    variance = torch.stack(squares).sum(0) / len(rows)
    rounding = len(rows) * torch.finfo(torch.float64).eps
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    return mean, torch.where(constant, 1.0, variance.sqrt())


def _standardised(
    rows: Float[Tensor, "rows dim"], mean: Float[Tensor, " dim"], deviation: Float[Tensor, " dim"]
) -> Float[Tensor, "rows dim"]:
    pieces = torch.split(rows, ROWS_AT_ONCE)
    return torch.cat([((piece.double() - mean) / deviation).float() for piece in pieces])


def _floor(matrix: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    """What keeps float32's rounding in a matrix from making it indefinite."""
    smallest = len(matrix) * torch.finfo(torch.float32).eps * matrix.diagonal().max()
    return smallest * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
