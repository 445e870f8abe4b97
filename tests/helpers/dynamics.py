"""Slow references of the explorer's other dynamics: formulas of the papers, SciPy's integrator."""

import numpy as np
from scipy.integrate import solve_ivp


def integrate(velocity, start, times):
    """States at `times`, one row each."""
    done = solve_ivp(
        velocity, (times[0], times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-14
    )
    assert done.success
    return done.y.T


def linear_byol(eta, v, tau, alpha):
    """Modes (p, s), interleaved, of Tian et al. 2021 with white data."""

    def velocity(_, y):
        p, s = y[0::2], y[1::2]
        pull = tau - (1 + v) * p
        return np.stack([alpha * s * pull - eta * p, 2 * p * s * pull - 2 * eta * s], 1).ravel()

    return velocity


def isoloss(v, power, predictor, stop):
    """Four eigenvalues under the Euclidean loss, then four under IsoLoss."""

    def velocity(_, y):
        p = np.maximum(y, 0) ** power if predictor else np.ones_like(y)
        pull = 1 - (1 + v) * p
        first = 2 * y * p * pull if stop else 2 * y * (2 * p - (1 + v) * (1 + p**2))
        return np.concatenate([first[:4], (2 * y * pull)[4:]])

    return velocity


def direct_set(eta, alpha, noise):
    """One direction for each entry of `noise`."""
    noise = np.asarray(noise)

    def velocity(_, w):
        p = np.maximum(w, 0) ** (2 * alpha)
        return p * (1 - (1 + noise) * p) * w - eta * w

    return velocity


def corridor(states):
    """The lazy walk along a corridor of so many rooms: symmetric, rows sum to 1."""
    walk = np.eye(states) / 2 + np.diag(np.full(states - 1, 0.25), 1)
    walk += np.diag(np.full(states - 1, 0.25), -1)
    walk[0, 0] += 0.25
    walk[-1, -1] += 0.25
    return walk


def self_predictive(walk, features, rho, eta, stop):
    """Features (states x features) and predictor, flattened one after the other."""
    states = len(walk)

    def velocity(_, y):
        F = y[: states * features].reshape(states, features)
        P = y[states * features :].reshape(features, features)
        R = walk @ F - F @ P
        moved = R @ P.T - eta * F - (0 if stop else walk.T @ R)
        return np.concatenate([moved.ravel(), (rho * F.T @ R - eta * P).ravel()])

    return velocity
