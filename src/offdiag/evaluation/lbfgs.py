"""Limited-memory BFGS for smooth convex functions, on any device, with a preconditioner."""

from collections import deque
from collections.abc import Callable

from torch import Tensor

MEMORY = 10
ARMIJO, CURVATURE = 1e-4, 0.9  # the two constants of Wolfe's conditions (Nocedal & Wright, ch. 3)
TRIALS = 40
ROUNDING = 1e-7  # relative, in the function's value: its products may be float32's


def minimise(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    *,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
    iterations: int,
) -> tuple[Tensor, bool]:
    """The minimum, and whether no entry of the gradient there exceeds `tolerance`.

    `precondition` applies an approximate inverse Hessian, which stands where L-BFGS has a
    multiple of the identity (Nocedal & Wright, algorithm 7.4). Steps meet Wolfe's weak
    conditions, found by bisection (Lewis & Overton 2013). Ends early where the
    function falls no further within rounding.
    """
    x = start
    value, gradient = value_and_gradient(x)
    pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=MEMORY)
    for _ in range(iterations):
        if gradient.abs().max() <= tolerance:
            return x, True
        direction = -_inverse_hessian(gradient, pairs, precondition)
        found = _step(value_and_gradient, x, value, gradient, direction)
        if found is None:
            break
        new, value, new_gradient = found
        s, y = new - x, new_gradient - gradient
        if (product := (s * y).sum()) > 0:
            pairs.append((s, y, 1 / product))
        x, gradient = new, new_gradient
    return x, bool(gradient.abs().max() <= tolerance)


def _inverse_hessian(
    gradient: Tensor,
    pairs: deque[tuple[Tensor, Tensor, Tensor]],
    precondition: Callable[[Tensor], Tensor],
) -> Tensor:
    """The two loops of L-BFGS over the last steps s and changes y of the gradient."""
    q = gradient
    alphas = []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * (s * q).sum())
        q = q - alphas[-1] * y
    r = precondition(q)
    if pairs:
        _, y, rho = pairs[-1]
        r = r / (rho * (y * precondition(y)).sum())
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - rho * (y * r).sum())
    return r


def _step(
    value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The point along `direction` that meets both conditions, its value and gradient."""
    slope = (gradient * direction).sum()
    low, high, length = 0.0, float("inf"), 1.0
    for _ in range(TRIALS):
        point = x + length * direction
        there, gradient_there = value_and_gradient(point)
        if there > value + ARMIJO * length * slope + ROUNDING * value.abs():
            high = length
        elif (gradient_there * direction).sum() < CURVATURE * slope:
            low = length
        else:
            return point, there, gradient_there
        length = (low + high) / 2 if high < float("inf") else 2 * low
    return None
