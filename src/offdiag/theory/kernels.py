# mypy: allow-untyped-defs, allow-untyped-calls
"""What Numba compiles of the theory: the closed form, its Jacobian, the flow and the descent.

docs/theory.md derives what is computed here; equation numbers refer to it. A state is
one vector y: the m rows of W = (c | N), each with k inner products and m coordinates
of its noise part, then the entries of the head that train.

One file on purpose: Numba keys its cache to the file of the function called from
outside, so a callee in another file could change without being recompiled.
"""

from typing import NamedTuple

import numpy as np

from offdiag._compiled import compiled
from offdiag.theory.rodas5p import GAMMA, STAGES, A, C

TINY = 1e-200  # keeps 0 / 0 at 0 where an inner product or a noise part is exactly 0
CLOSE = 1e-12  # in log(t + t_0): the end of the flow is reached
STILL = 1e-20  # a step that moves nothing by more than this goes nowhere
LEARNED = 0.5  # |c| above this: the neuron has picked the feature up

REACHED, NOT_FINITE, STEP_TOO_SMALL, TOO_MANY_STEPS = range(4)


class Constants(NamedTuple):
    """What of a `Problem` the kernels need, as numbers; letters as in docs/theory.md."""

    neurons: int
    features: int
    power: int
    signal: np.ndarray  # alpha_l^q
    weights: np.ndarray  # pi_l
    same: float  # k11
    cross: float  # k12
    noise_patches: float  # nu
    noise_variance: float  # sigma^2
    moments: np.ndarray  # E[u^q v^q] = R_uv sum_i moments_i (R_uu R_vv)^i (R_uv^2)^(h-i)
    normalised: bool
    to_online: float  # 1 where the gradient passes through F, else 0
    to_target: float  # 1 where it passes through G
    rho: float
    head: np.ndarray  # its start; entries that do not train stay there
    rows: np.ndarray  # of the entries that train
    columns: np.ndarray


@compiled
def size(k):
    """Number of components of a state."""
    return k.neurons * (k.features + k.neurons) + k.rows.size


@compiled
def workspace(k):
    """Scratch arrays for `velocity`; `jacobian` reads what it leaves in them."""
    m = k.neurons
    return np.empty((6, m, k.features)), np.empty((6, m, m)), np.empty((6, m))


@compiled
def wide_workspace(k):
    """Scratch arrays for `jacobian`: the last axis runs over the components of the state."""
    m, n = k.neurons, size(k)
    return np.empty((4, m, k.features, n)), np.empty((4, m, m, n)), np.empty((6, m, n))


@compiled
def moment(k, a, b):
    """sum_i moments_i a^i b^(h - i) and its derivatives by a and by b, in Horner's way."""
    value, by_a, by_b = 0.0, 0.0, 0.0
    power, before = 1.0, 0.0  # a^i and a^(i - 1)
    for i in range(k.moments.size):
        by_b = by_b * b + value
        by_a = by_a * b + k.moments[i] * i * before
        value = value * b + k.moments[i] * power
        before = power
        power = power * a
    return value, by_a, by_b


@compiled
def moment_second_derivatives(k, a, b):
    """The second derivatives of `moment`, by a twice, by a and b, and by b twice."""
    by_aa, by_ab, by_bb = 0.0, 0.0, 0.0
    h = k.moments.size - 1
    for i in range(h + 1):
        j = h - i
        if i > 1:
            by_aa += k.moments[i] * i * (i - 1) * a ** (i - 2) * b**j
        if i > 0 and j > 0:
            by_ab += k.moments[i] * i * j * a ** (i - 1) * b ** (j - 1)
        if j > 1:
            by_bb += k.moments[i] * j * (j - 1) * a**i * b ** (j - 2)
    return by_aa, by_ab, by_bb


@compiled
def velocity(k, y, out, work):
    """Write dy/dt (eq. 9 to 12) into `out` and return the loss (eq. 5).

    Leaves its intermediate values in `work` for `jacobian`.
    """
    m, features, h = k.neurons, k.features, (k.power - 1) // 2
    width = features + m
    wide, square, thin = work
    phi, slope, U, Q, T, B = wide[0], wide[1], wide[2], wide[3], wide[4], wide[5]
    E, R, K, EK, weight, G = square[0], square[1], square[2], square[3], square[4], square[5]
    S, V_F, V_G, own_F, g_F, g_G = thin[0], thin[1], thin[2], thin[3], thin[4], thin[5]

    E[:] = k.head
    for e in range(k.rows.size):
        E[k.rows[e], k.columns[e]] = y[m * width + e]

    for r in range(m):
        for f in range(features):
            c = y[r * width + f]
            even = c * c
            power = even
            for _ in range(h - 1):
                power = power * even
            slope[r, f] = k.power * k.signal[f] * power
            phi[r, f] = k.signal[f] * power * c
        for s in range(r + 1):
            dot = 0.0
            for a in range(features, width):
                dot += y[r * width + a] * y[s * width + a]
            R[r, s] = k.noise_variance * dot
            R[s, r] = R[r, s]

    for r in range(m):
        for s in range(r + 1):
            value, _, _ = moment(k, R[r, r] * R[s, s], R[r, s] * R[r, s])
            K[r, s] = R[r, s] * value
            K[s, r] = K[r, s]

    loss = 0.0
    for j in range(m):
        S[j], V_F[j], V_G[j], own_F[j] = 0.0, 0.0, 0.0, 0.0
        for f in range(features):
            borrowed = 0.0
            for r in range(m):
                if r != j:
                    borrowed += E[j, r] * phi[r, f]
            B[j, f] = borrowed
            U[j, f] = borrowed + E[j, j] * phi[j, f]
            S[j] += k.cross * k.weights[f] * U[j, f] * phi[j, f]
            V_F[j] += k.same * k.weights[f] * U[j, f] * U[j, f]
            V_G[j] += k.same * k.weights[f] * phi[j, f] * phi[j, f]
        for s in range(m):
            mixed = 0.0
            for r in range(m):
                mixed += E[j, r] * K[r, s]
            EK[j, s] = mixed
            own_F[j] += k.noise_patches * mixed * E[j, s]
        own_G = k.noise_patches * K[j, j]
        V_F[j] += own_F[j]
        V_G[j] += own_G
        if k.normalised:
            per_F, per_G = 1.0 / V_F[j], 1.0 / V_G[j]
            scale = np.sqrt(per_F * per_G)
            loss += 1.0 - S[j] * scale
            g_F[j] = 0.5 * S[j] * scale * per_F
            g_G[j] = 0.5 * S[j] * scale * per_G
            for f in range(features):
                # The plain form of eq. 8 cancels to rounding noise once a feature is
                # learned; this one is a sum of terms that are small themselves.
                q, t = own_F[j] * phi[j, f], own_G * U[j, f]
                for o in range(features):
                    minor = B[j, o] * phi[j, f] - B[j, f] * phi[j, o]
                    q += k.same * k.weights[o] * U[j, o] * minor
                    t -= k.same * k.weights[o] * phi[j, o] * minor
                Q[j, f] = -k.cross * scale * per_F * k.weights[f] * q
                T[j, f] = -k.cross * scale * per_G * k.weights[f] * t
        else:
            loss += 0.5 * (V_F[j] + V_G[j]) - S[j]
            g_F[j] = 0.5
            g_G[j] = 0.5
            for f in range(features):
                Q[j, f] = k.weights[f] * (k.same * U[j, f] - k.cross * phi[j, f])
                T[j, f] = k.weights[f] * (k.same * phi[j, f] - k.cross * U[j, f])

    for r in range(m):
        for f in range(features):
            g = 0.0
            for j in range(m):
                g += E[j, r] * Q[j, f]
            out[r * width + f] = -slope[r, f] * (k.to_online * g + k.to_target * T[r, f])
        for s in range(r + 1):
            w = 0.0
            for j in range(m):
                w += g_F[j] * E[j, r] * E[j, s]
            w = k.to_online * w
            if r == s:
                w += k.to_target * g_G[r]
            weight[r, s] = k.noise_patches * w
            weight[s, r] = weight[r, s]

    for r in range(m):
        own = 0.0
        for s in range(m):
            b = R[r, s] * R[r, s]
            value, by_a, by_b = moment(k, R[r, r] * R[s, s], b)
            G[r, s] = weight[r, s] * (value + 2.0 * b * by_b)
            own += 2.0 * weight[r, s] * R[r, s] * by_a * R[s, s]
        G[r, r] += own
    for r in range(m):
        for a in range(features, width):
            g = 0.0
            for s in range(m):
                g += G[r, s] * y[s * width + a]
            out[r * width + a] = -2.0 * k.noise_variance * g

    for e in range(k.rows.size):
        j, r = k.rows[e], k.columns[e]
        g = 2.0 * k.noise_patches * g_F[j] * EK[j, r]
        for f in range(features):
            g += Q[j, f] * phi[r, f]
        out[m * width + e] = -k.rho * k.to_online * g
    return loss


@compiled
def choose_rescaling(k, z, v, rescaling, chosen):
    """Write how the coming step from z = (y, log(t + t_0)) is to run through time.

    A step is taken in s, with ds = dt at its start and

        dt/ds = g = 1 / (a t_n / t + b (c / c_n)^(2q-2) + e (|n| / |n_n|)^(2q-2))

    where c is the inner product that grows fastest, n the noise part that decays fastest
    and a, b, e the shares of the three rates 1/t, d log c/dt and -d log |n|/dt (eq. 13).
    On a jump, dc/dt ~ c^(2q-1) with its end in finite time becomes dc/ds ~ c; the slow
    decay of the noise becomes dn/ds ~ -n. g depends on no velocity: rates that enter
    through the velocity would bring in the rounding of a component that has settled.
    """
    m, width = k.neurons, k.features + k.neurons
    n = z.size - 1
    growth, decay = 0.0, 0.0
    chosen[:] = 0
    for r in range(m):
        own, dot = TINY, 0.0
        for i in range(r * width + k.features, (r + 1) * width):
            own += z[i] * z[i]
            dot += z[i] * v[i]
        if -dot / own > decay:
            decay, chosen[1], rescaling[4] = -dot / own, r, own
        norm = own
        for i in range(r * width, r * width + k.features):
            norm += z[i] * z[i]
        for i in range(r * width, r * width + k.features):
            square = z[i] * z[i]
            if z[i] * v[i] > growth * square and square < 0.25 * norm:
                growth, chosen[0], rescaling[3] = v[i] / z[i], i, square
    per_time = np.exp(-z[n])
    total = per_time + growth + decay
    rescaling[0], rescaling[1], rescaling[2] = per_time / total, growth / total, decay / total
    rescaling[5], rescaling[6] = z[n], per_time


@compiled
def time_rescaling(k, z, rescaling, chosen):
    """g of `choose_rescaling` at z, and by how much 1/t has shrunk since the start of the step."""
    early = np.exp(rescaling[5] - z[z.size - 1])
    total = rescaling[0] * early
    if rescaling[1] > 0.0:
        i = chosen[0]
        grown = z[i] * z[i] / rescaling[3]
        power = grown
        for _ in range(k.power - 2):
            power *= grown
        total += rescaling[1] * power
    if rescaling[2] > 0.0:
        first = chosen[1] * (k.features + k.neurons) + k.features
        own = 0.0
        for i in range(first, first + k.neurons):
            own += z[i] * z[i]
        left = own / rescaling[4]
        power = left
        for _ in range(k.power - 2):
            power *= left
        total += rescaling[2] * power
    return 1.0 / total, early


@compiled
def rescaling_gradient(k, z, rescaling, chosen, by_z):
    """Write the derivative of log g by z at the start of the step into `by_z`."""
    by_z[:] = 0.0
    by_z[z.size - 1] = rescaling[0]
    power = -2.0 * (k.power - 1)
    if rescaling[1] > 0.0:
        by_z[chosen[0]] = power * rescaling[1] / z[chosen[0]]
    if rescaling[2] > 0.0:
        first = chosen[1] * (k.features + k.neurons) + k.features
        for i in range(first, first + k.neurons):
            by_z[i] = power * rescaling[2] * z[i] / rescaling[4]


@compiled
def rescaled(k, z, out, rescaling, chosen, work):
    """Write dz/ds into `out`."""
    n = z.size - 1
    g, early = time_rescaling(k, z, rescaling, chosen)
    velocity(k, z[:n], out[:n], work)
    for i in range(n):
        out[i] *= g
    out[n] = g * early * rescaling[6]


@compiled
def velocity_jacobian(k, y, out, work, wide_work):
    """Write d(velocity)/dy into `out`; `work` must come from `velocity` at the same y.

    The lines of `velocity`, differentiated one by one for all components of y at once:
    three times quicker than complex steps through `velocity`. Differences of real steps
    would not do: the slowest motions are 10^12 times slower than the fastest.
    """
    m, features, h = k.neurons, k.features, (k.power - 1) // 2
    width, n = features + m, y.size
    wide, square, thin = work
    phi, slope, U, Q, T, B = wide[0], wide[1], wide[2], wide[3], wide[4], wide[5]
    E, R, K, EK, weight, G = square[0], square[1], square[2], square[3], square[4], square[5]
    V_F, V_G, own_F, g_F, g_G = thin[1], thin[2], thin[3], thin[4], thin[5]
    d_wide, d_square, d_thin = wide_work
    d_U, d_B, d_Q, d_T = d_wide[0], d_wide[1], d_wide[2], d_wide[3]
    d_R, d_K, d_EK, d_G = d_square[0], d_square[1], d_square[2], d_square[3]
    d_S, d_V_F, d_V_G, d_own = d_thin[0], d_thin[1], d_thin[2], d_thin[3]
    d_g_F, d_g_G = d_thin[4], d_thin[5]
    entries, first = k.rows.size, m * width

    d_R[:] = 0.0
    for r in range(m):
        for s in range(m):
            for a in range(features, width):
                d_R[r, s, r * width + a] += k.noise_variance * y[s * width + a]
                d_R[r, s, s * width + a] += k.noise_variance * y[r * width + a]
    for r in range(m):
        for s in range(m):
            b = R[r, s] * R[r, s]
            value, by_a, by_b = moment(k, R[r, r] * R[s, s], b)
            direct, shared = value + 2.0 * b * by_b, R[r, s] * by_a
            for i in range(n):
                d_K[r, s, i] = direct * d_R[r, s, i] + shared * (
                    R[s, s] * d_R[r, r, i] + R[r, r] * d_R[s, s, i]
                )

    d_U[:] = 0.0
    d_B[:] = 0.0
    d_S[:] = 0.0
    d_V_F[:] = 0.0
    d_V_G[:] = 0.0
    d_own[:] = 0.0
    for j in range(m):
        for f in range(features):
            for r in range(m):
                d_U[j, f, r * width + f] = E[j, r] * slope[r, f]
                if r != j:
                    d_B[j, f, r * width + f] = E[j, r] * slope[r, f]
            for e in range(entries):
                if k.rows[e] == j:
                    d_U[j, f, first + e] = phi[k.columns[e], f]
                    if k.columns[e] != j:
                        d_B[j, f, first + e] = phi[k.columns[e], f]
            for i in range(n):
                d_S[j, i] += k.cross * k.weights[f] * phi[j, f] * d_U[j, f, i]
                d_V_F[j, i] += 2.0 * k.same * k.weights[f] * U[j, f] * d_U[j, f, i]
            own = j * width + f
            d_S[j, own] += k.cross * k.weights[f] * U[j, f] * slope[j, f]
            d_V_G[j, own] += 2.0 * k.same * k.weights[f] * phi[j, f] * slope[j, f]
        for s in range(m):
            for i in range(n):
                d_EK[j, s, i] = 0.0
            for r in range(m):
                for i in range(n):
                    d_EK[j, s, i] += E[j, r] * d_K[r, s, i]
            for e in range(entries):
                if k.rows[e] == j:
                    d_EK[j, s, first + e] += K[k.columns[e], s]
            for i in range(n):
                d_own[j, i] += k.noise_patches * E[j, s] * d_EK[j, s, i]
        for e in range(entries):
            if k.rows[e] == j:
                d_own[j, first + e] += k.noise_patches * EK[j, k.columns[e]]
        for i in range(n):
            d_V_F[j, i] += d_own[j, i]
            d_V_G[j, i] += k.noise_patches * d_K[j, j, i]

        if not k.normalised:
            d_g_F[j] = 0.0
            d_g_G[j] = 0.0
            for f in range(features):
                for i in range(n):
                    d_Q[j, f, i] = k.weights[f] * k.same * d_U[j, f, i]
                    d_T[j, f, i] = -k.weights[f] * k.cross * d_U[j, f, i]
                d_Q[j, f, j * width + f] -= k.weights[f] * k.cross * slope[j, f]
                d_T[j, f, j * width + f] += k.weights[f] * k.same * slope[j, f]
            continue
        per_F, per_G = 1.0 / V_F[j], 1.0 / V_G[j]
        scale = np.sqrt(per_F * per_G)
        for i in range(n):
            d_log_scale = -0.5 * (d_V_F[j, i] * per_F + d_V_G[j, i] * per_G)  # d log scale
            d_g_F[j, i] = 0.5 * scale * per_F * d_S[j, i] + g_F[j] * (
                d_log_scale - d_V_F[j, i] * per_F
            )
            d_g_G[j, i] = 0.5 * scale * per_G * d_S[j, i] + g_G[j] * (
                d_log_scale - d_V_G[j, i] * per_G
            )
        own_G = k.noise_patches * K[j, j]
        for f in range(features):
            to_Q, to_T = (
                -k.cross * scale * k.weights[f] * per_F,
                -k.cross * scale * k.weights[f] * per_G,
            )
            at = j * width + f
            for i in range(n):
                d_log_scale = -0.5 * (d_V_F[j, i] * per_F + d_V_G[j, i] * per_G)
                d_Q[j, f, i] = (
                    Q[j, f] * (d_log_scale - d_V_F[j, i] * per_F) + to_Q * phi[j, f] * d_own[j, i]
                )
                d_T[j, f, i] = T[j, f] * (d_log_scale - d_V_G[j, i] * per_G) + to_T * (
                    k.noise_patches * d_K[j, j, i] * U[j, f] + own_G * d_U[j, f, i]
                )
            d_Q[j, f, at] += to_Q * own_F[j] * slope[j, f]
            for o in range(features):
                minor = B[j, o] * phi[j, f] - B[j, f] * phi[j, o]
                by_U = k.same * k.weights[o] * U[j, o]
                by_phi = k.same * k.weights[o] * phi[j, o]
                for i in range(n):
                    turned = phi[j, f] * d_B[j, o, i] - phi[j, o] * d_B[j, f, i]
                    d_Q[j, f, i] += to_Q * (
                        k.same * k.weights[o] * minor * d_U[j, o, i] + by_U * turned
                    )
                    d_T[j, f, i] -= to_T * by_phi * turned
                other = j * width + o
                d_Q[j, f, at] += to_Q * by_U * B[j, o] * slope[j, f]
                d_Q[j, f, other] -= to_Q * by_U * B[j, f] * slope[j, o]
                d_T[j, f, at] -= to_T * by_phi * B[j, o] * slope[j, f]
                d_T[j, f, other] += to_T * by_phi * B[j, f] * slope[j, o]
                d_T[j, f, other] -= to_T * k.same * k.weights[o] * minor * slope[j, o]

    for r in range(m):
        for f in range(features):
            row, total = r * width + f, 0.0
            for i in range(n):
                out[row, i] = -slope[r, f] * k.to_target * d_T[r, f, i]
            for j in range(m):
                total += E[j, r] * Q[j, f]
                for i in range(n):
                    out[row, i] -= slope[r, f] * k.to_online * E[j, r] * d_Q[j, f, i]
            for e in range(entries):
                if k.columns[e] == r:
                    out[row, first + e] -= slope[r, f] * k.to_online * Q[k.rows[e], f]
            c = y[row]
            curvature = k.power * (k.power - 1) * k.signal[f] * c
            for _ in range(h - 1):
                curvature *= c * c
            out[row, row] -= curvature * (k.to_online * total + k.to_target * T[r, f])

    d_G[:] = 0.0
    for r in range(m):
        for s in range(m):
            b = R[r, s] * R[r, s]
            value, by_a, by_b = moment(k, R[r, r] * R[s, s], b)
            by_aa, by_ab, by_bb = moment_second_derivatives(k, R[r, r] * R[s, s], b)
            direct, shared = value + 2.0 * b * by_b, R[r, s] * by_a
            d_weight = d_EK[r, s]  # its last use is over
            online = k.noise_patches * k.to_online
            if r == s:
                target = k.noise_patches * k.to_target
                for i in range(n):
                    d_weight[i] = target * d_g_G[r, i]
            else:
                for i in range(n):
                    d_weight[i] = 0.0
            for j in range(m):
                for i in range(n):
                    d_weight[i] += online * E[j, r] * E[j, s] * d_g_F[j, i]
            for e in range(entries):
                j = k.rows[e]
                if k.columns[e] == r:
                    d_weight[first + e] += online * g_F[j] * E[j, s]
                if k.columns[e] == s:
                    d_weight[first + e] += online * g_F[j] * E[j, r]
            for i in range(n):
                d_a = R[s, s] * d_R[r, r, i] + R[r, r] * d_R[s, s, i]
                d_b = 2.0 * R[r, s] * d_R[r, s, i]
                d_direct = (by_a + 2.0 * b * by_ab) * d_a + (3.0 * by_b + 2.0 * b * by_bb) * d_b
                d_shared = by_a * d_R[r, s, i] + R[r, s] * (by_aa * d_a + by_ab * d_b)
                d_G[r, s, i] += direct * d_weight[i] + weight[r, s] * d_direct
                d_G[r, r, i] += 2.0 * (
                    shared * R[s, s] * d_weight[i]
                    + weight[r, s] * (d_shared * R[s, s] + shared * d_R[s, s, i])
                )
    for r in range(m):
        for a in range(features, width):
            row = r * width + a
            for i in range(n):
                out[row, i] = 0.0
            for s in range(m):
                for i in range(n):
                    out[row, i] -= 2.0 * k.noise_variance * y[s * width + a] * d_G[r, s, i]
                out[row, s * width + a] -= 2.0 * k.noise_variance * G[r, s]

    for e in range(entries):
        j, r, row = k.rows[e], k.columns[e], first + e
        rate = -k.rho * k.to_online
        for i in range(n):
            out[row, i] = rate * 2.0 * k.noise_patches * EK[j, r] * d_g_F[j, i]
            for s in range(m):
                out[row, i] += rate * 2.0 * k.noise_patches * g_F[j] * E[j, s] * d_K[s, r, i]
        for o in range(entries):
            if k.rows[o] == j:
                out[row, first + o] += rate * 2.0 * k.noise_patches * g_F[j] * K[k.columns[o], r]
        for f in range(features):
            for i in range(n):
                out[row, i] += rate * phi[r, f] * d_Q[j, f, i]
            out[row, r * width + f] += rate * Q[j, f] * slope[r, f]


@compiled
def jacobian(k, z, v, out, inner, rescaling, chosen, by_z, work, wide_work):
    """Write the Jacobian of `rescaled` at the start of a step, where g = 1, into `out`.

    `v` and `work` must come from `velocity` there; `inner` receives its Jacobian.
    """
    n = z.size - 1
    rescaling_gradient(k, z, rescaling, chosen, by_z)
    velocity_jacobian(k, z[:n], inner, work, wide_work)
    for row in range(n):
        for column in range(n):
            out[row, column] = inner[row, column] + v[row] * by_z[column]
        out[row, n] = v[row] * by_z[n]
    for column in range(n):
        out[n, column] = v[n] * by_z[column]
    out[n, n] = v[n] * (by_z[n] - 1.0)


@compiled
def factorise(matrix, pivots):
    """LU with partial pivoting, in place, the diagonal of U inverted.

    For the 11 x 11 of two neurons this takes less time than calling LAPACK would.
    """
    n = matrix.shape[0]
    for j in range(n):
        best = j
        for i in range(j + 1, n):
            if abs(matrix[i, j]) > abs(matrix[best, j]):
                best = i
        pivots[j] = best
        if best != j:
            for column in range(n):
                matrix[j, column], matrix[best, column] = matrix[best, column], matrix[j, column]
        matrix[j, j] = 1.0 / matrix[j, j]
        for i in range(j + 1, n):
            factor = matrix[i, j] * matrix[j, j]
            matrix[i, j] = factor
            if factor != 0.0:
                for column in range(j + 1, n):
                    matrix[i, column] -= factor * matrix[j, column]


@compiled
def solve(matrix, pivots, b):
    """Solve in place with the factors of `factorise`."""
    n = b.size
    for i in range(n):
        b[i], b[pivots[i]] = b[pivots[i]], b[i]
    for i in range(n):
        for j in range(i):
            b[i] -= matrix[i, j] * b[j]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            b[i] -= matrix[i, j] * b[j]
        b[i] *= matrix[i, i]


@compiled
def rosenbrock_step(k, z, v, J, h, end, U, matrix, pivots, rescaling, chosen, work):
    """One step of Rodas5P from z: the new state into `end`, the stages into `U`."""
    n = z.size
    for i in range(n):
        for j in range(n):
            matrix[i, j] = -J[i, j]
        matrix[i, i] += 1.0 / (h * GAMMA)
    factorise(matrix, pivots)
    for stage in range(STAGES):
        u = U[stage]
        if stage == 0:
            u[:] = v
        else:
            end[:] = z
            for before in range(stage):
                if A[stage, before] != 0.0:
                    for i in range(n):
                        end[i] += A[stage, before] * U[before, i]
            rescaled(k, end, u, rescaling, chosen, work)
            for before in range(stage):
                for i in range(n):
                    u[i] += C[stage, before] / h * U[before, i]
        solve(matrix, pivots, u)
    for i in range(n):
        end[i] += U[STAGES - 1, i]


@compiled
def error_norm(k, z, end, error, rtol):
    """Root mean square of the error of a step in units of its tolerance.

    rtol of each inner product (or of a thousandth of its neuron's largest), of each
    neuron's noise norm, of each head entry (or of a tenth of sqrt(rho / q), the
    size that eq. 15 lets it reach), and of the time.
    """
    m, width = k.neurons, k.features + k.neurons
    total = (error[z.size - 1] / rtol) ** 2
    for r in range(m):
        largest = TINY
        for i in range(r * width, r * width + k.features):
            largest = max(largest, abs(z[i]))
        for i in range(r * width, r * width + k.features):
            total += (error[i] / (rtol * max(abs(end[i]), 1e-3 * largest))) ** 2
        noise, wrong = TINY, 0.0
        for i in range(r * width + k.features, (r + 1) * width):
            noise += z[i] * z[i]
            wrong += error[i] * error[i]
        total += wrong / (rtol * rtol * noise)
    floor = 0.1 * np.sqrt(k.rho / k.power) + TINY
    for i in range(m * width, z.size - 1):
        total += (error[i] / (rtol * max(abs(end[i]), floor))) ** 2
    return np.sqrt(total / z.size)


@compiled
def first_offset(k, y, time, work):
    """t_0: a thousandth of the shortest time in which an inner product would double."""
    v = np.empty(y.size)
    velocity(k, y, v, work)
    offset = time
    for r in range(k.neurons):
        for i in range(r * (k.features + k.neurons), (r + 1) * (k.features + k.neurons)):
            if y[i] != 0.0 and v[i] != 0.0:
                offset = min(offset, 1e-3 * abs(y[i] / v[i]))
    return offset


@compiled
def flow(k, start, time, rtol, max_steps):
    """Integrate the flow from `start` to `time`.

    Returns the accepted steps (h, g at the end of each; z and dz/dt at both ends; the
    loss), t_0, how it ended, and how many steps were tried.
    """
    n = start.size + 1
    z, v, end = np.empty(n), np.empty(n), np.empty(n)
    J, matrix, pivots = np.empty((n, n)), np.empty((n, n)), np.empty(n, np.int64)
    U, rescaling, chosen, by_z = (
        np.empty((STAGES, n)),
        np.empty(7),
        np.empty(2, np.int64),
        np.empty(n),
    )
    inner, work, wide_work = np.empty((n - 1, n - 1)), workspace(k), wide_workspace(k)

    offset = first_offset(k, start, time, work)
    goal = np.log(time + offset)
    z[: n - 1] = start
    z[n - 1] = np.log(offset)
    h, status, tried = 0.1 * offset, REACHED, 0
    h_before, error_before, rejected = 0.0, 1.0, False
    capacity, kept = 256, 0
    steps, losses = np.empty((capacity, 2)), np.empty(capacity)
    states, slopes = np.empty((capacity, n)), np.empty((capacity, n))
    while True:
        loss = velocity(k, z[: n - 1], v[: n - 1], work)
        v[n - 1] = np.exp(-z[n - 1])
        if kept == capacity:
            capacity *= 2
            losses = grow_vector(losses)
            steps, states, slopes = grow_table(steps), grow_table(states), grow_table(slopes)
        states[kept], slopes[kept], losses[kept] = z, v, loss
        if z[n - 1] >= goal - CLOSE:
            break
        if not np.isfinite(v).all():
            status = NOT_FINITE
            break
        choose_rescaling(k, z, v, rescaling, chosen)
        jacobian(k, z, v, J, inner, rescaling, chosen, by_z, work, wide_work)
        while True:
            tried += 1
            rosenbrock_step(k, z, v, J, h, end, U, matrix, pivots, rescaling, chosen, work)
            error = error_norm(k, z, end, U[STAGES - 1], rtol)
            if error <= 1.0 and end[n - 1] <= goal + CLOSE:
                break
            if error <= 1.0:  # beyond the end: aim at it, with the step that is known by now
                h *= (goal - z[n - 1]) / (end[n - 1] - z[n - 1])
            else:
                rejected = True
                h *= max(0.1, 0.9 * error**-0.2) if np.isfinite(error) else 0.1
            if h * np.abs(v[: n - 1]).max() < STILL:
                status = STEP_TOO_SMALL
                break
            if tried >= max_steps:
                break
        if status == REACHED and tried >= max_steps:
            status = TOO_MANY_STEPS
        if status != REACHED:
            break
        g, _ = time_rescaling(k, end, rescaling, chosen)
        steps[kept, 0], steps[kept, 1] = h, g
        kept += 1
        z[:] = end
        # Gustafsson's predictive controller (Hairer and Wanner, Solving ODEs II, IV.8):
        # the error constant changes by orders of magnitude on the way into a jump.
        error = max(error, 1e-8)
        factor = 0.9 * error**-0.2
        if h_before > 0.0:
            factor = min(factor, factor * (h / h_before) * (error_before / error) ** 0.2)
        factor = min(8.0, max(0.2, factor))
        if rejected:
            factor = min(factor, 1.0)
        h_before, error_before, rejected = h * g, max(error, 1e-2), False
        h *= g * factor
    kept += 1
    return steps[:kept], states[:kept], slopes[:kept], losses[:kept], offset, status, tried


@compiled
def grow_vector(row):
    """The same numbers with as much room again."""
    out = np.empty(2 * row.size)
    out[: row.size] = row
    return out


@compiled
def grow_table(table):
    """The same rows with as much room again."""
    out = np.empty((2 * table.shape[0], table.shape[1]))
    out[: table.shape[0]] = table
    return out


@compiled
def hermite(step, share, at, states, slopes, i):
    """Component i at a share of step `at`, by cubic Hermite interpolation in s."""
    x, h, g = share, step[0], step[1]
    return (
        (1.0 + 2.0 * x) * (1.0 - x) ** 2 * states[at, i]
        + x * (1.0 - x) ** 2 * h * slopes[at, i]
        + x * x * (3.0 - 2.0 * x) * states[at + 1, i]
        + x * x * (x - 1.0) * h * g * slopes[at + 1, i]
    )


@compiled
def learning_times(k, steps, states, slopes, offset, out):
    """Write the first time at which |c_jl| passes LEARNED into out[j, f]; infinity if never."""
    last = states.shape[1] - 1
    for r in range(k.neurons):
        for f in range(k.features):
            i = r * (k.features + k.neurons) + f
            out[r, f] = 0.0 if abs(states[0, i]) > LEARNED else np.inf
            if out[r, f] == 0.0:
                continue
            for at in range(states.shape[0] - 1):
                if abs(states[at + 1, i]) > LEARNED:
                    low, high = 0.0, 1.0
                    for _ in range(40):
                        share = 0.5 * (low + high)
                        if abs(hermite(steps[at], share, at, states, slopes, i)) > LEARNED:
                            high = share
                        else:
                            low = share
                    out[r, f] = np.exp(hermite(steps[at], high, at, states, slopes, last)) - offset
                    break


@compiled
def head_peak(k, steps, states, slopes):
    """Largest absolute entry of the head off its diagonal, over the whole way."""
    peak = 0.0
    for r in range(k.neurons):
        for c in range(k.neurons):
            if r != c:
                peak = max(peak, abs(k.head[r, c]))
    for e in range(k.rows.size):
        if k.rows[e] == k.columns[e]:
            continue
        i = k.neurons * (k.features + k.neurons) + e
        for at in range(states.shape[0] - 1):
            near = max(abs(states[at, i]), abs(states[at + 1, i]))
            if near > 0.9 * peak:
                peak = max(peak, near)
                for part in range(1, 8):
                    peak = max(peak, abs(hermite(steps[at], part / 8.0, at, states, slopes, i)))
    return peak


@compiled
def flow_many(
    k, starts, time, rtol, max_steps, ends, learned, peaks, reached, losses, status, tried
):
    """`flow` from each row of `starts`, kept as what the table of outcomes needs."""
    n = starts.shape[1]
    for i in range(starts.shape[0]):
        steps, states, slopes, loss, offset, ended, tries = flow(
            k, starts[i], time, rtol, max_steps
        )
        ends[i] = states[-1, :n]
        learning_times(k, steps, states, slopes, offset, learned[i])
        peaks[i] = head_peak(k, steps, states, slopes)
        reached[i] = time if ended == REACHED else np.exp(states[-1, n]) - offset
        losses[i], status[i], tried[i] = loss[-1], ended, tries


@compiled
def descent(k, start, learning_rate, save_at, states, losses):
    """Plain gradient descent; writes the state after each count of steps in `save_at`.

    Returns how many of them were reached with finite numbers.
    """
    y, v = start.copy(), np.empty(start.size)
    work = workspace(k)
    steps = 0
    for kept in range(save_at.size):
        while steps < save_at[kept]:
            velocity(k, y, v, work)
            for i in range(y.size):
                y[i] += learning_rate * v[i]
            steps += 1
        states[kept] = y
        losses[kept] = velocity(k, y, v, work)
        if not np.isfinite(v).all():
            return kept
    return save_at.size
