# mypy: allow-untyped-defs, allow-untyped-calls
"""`kernels.flow` for many starts, eight side by side: one start a lane.

Every lane has its own step size and its own time; a lane whose start is done takes the next
one from the queue. The formulas are those of `kernels` and docs/theory.md; the Jacobian goes
through what one neuron depends on (its borrowed signal, its own signal and the variance of its
noise), so that it costs less than factorising it. `tests/theory/test_lanes.py` holds the two to
each other.
"""

from typing import NamedTuple

import numpy as np

from offdiag._compiled import compiled
from offdiag.theory.kernels import (
    CLOSE,
    LEARNED,
    NOT_FINITE,
    REACHED,
    STEP_TOO_SMALL,
    STILL,
    TINY,
    TOO_MANY_STEPS,
)
from offdiag.theory.rodas5p import GAMMA, STAGES, A, C
from offdiag.theory.simd import (
    LANES,
    any_greater,
    choose_greater,
    exponential,
    get,
    logarithm,
    put,
    root,
    size,
    splat,
)

PIVOT = 0.01  # a row is exchanged when its pivot is smaller than this share of the largest

# Rows of `Work.lane`, one number a lane
STEP, STEP_BEFORE, ERROR_BEFORE, OFFSET, GOAL, PEAK, LAST_STEP, LAST_G, MOVED = range(9)
# Rows of `Work.counts`
START, TRIED, REJECTED, FRESH = range(4)
IDLE = -1


class Work(NamedTuple):
    """Everything a batch is in the middle of; the last axis is the lane."""

    z: np.ndarray  # state and log(t + t_0)
    v: np.ndarray  # its rate of change in t
    end: np.ndarray
    z_before: np.ndarray
    v_before: np.ndarray
    U: np.ndarray  # the stages
    M: np.ndarray  # 1 / (h GAMMA) - Jacobian, then its factors
    wide: np.ndarray  # (neurons x features) of phi, slope, U, Q, T, B
    square: np.ndarray  # (neurons x neurons) of E, R, K, EK, weight, G, direct, shared
    thin: np.ndarray  # (neurons) of S, V_F, V_G, own_F, own_G, g_F, g_G
    rescaling: np.ndarray
    chosen_c: np.ndarray  # 1 for the inner product that sets the rescaling, else 0
    chosen_n: np.ndarray  # 1 for the neuron whose noise sets it
    by_z: np.ndarray
    local: np.ndarray  # partial derivatives of one neuron's Q and T
    own_by_n: np.ndarray  # of own_F_j by every noise coordinate
    thin_row: np.ndarray
    d_Q: np.ndarray  # of Q_jf by every component; where it is always 0 it is never written
    d_T: np.ndarray
    d_g: np.ndarray  # of g_F_j and g_G_j
    d_G: np.ndarray  # of G_rs, r <= s
    d_row: np.ndarray
    lane: np.ndarray
    counts: np.ndarray
    pivots: np.ndarray
    learned: np.ndarray  # first time at which |c_jl| passed LEARNED


class Queue(NamedTuple):
    """The starts of a batch and where their ends go."""

    starts: np.ndarray
    ends: np.ndarray
    learned: np.ndarray
    peaks: np.ndarray
    reached: np.ndarray
    losses: np.ndarray
    status: np.ndarray
    tried: np.ndarray
    next: np.ndarray  # of one element: the first start that no lane has taken yet
    done: np.ndarray  # of one element: how many have ended
    states: np.ndarray  # (records, size + 1): the states on the way of the first lane
    losses_on_the_way: np.ndarray
    kept: np.ndarray  # of one element: how many of them are written


def workspace(neurons: int, features: int, entries: int) -> Work:
    """Room for eight starts, every row on a cache line of its own."""
    m, k, n = neurons, features, neurons * (neurons + features) + entries + 1
    rows = {
        "z": n,
        "v": n,
        "end": n,
        "z_before": n,
        "v_before": n,
        "U": STAGES * n,
        "M": n * n,
        "wide": 6 * m * k,
        "square": 8 * m * m,
        "thin": 7 * m,
        "rescaling": 7,
        "chosen_c": m * k,
        "chosen_n": m,
        "by_z": n,
        "local": 6 * k * k + 8 * k + 4,
        "own_by_n": m * m,
        "thin_row": m,
        "d_Q": m * k * n,
        "d_T": m * k * n,
        "d_g": 2 * m * n,
        "d_G": m * m * n,
        "d_row": n,
        "lane": 9,
        "learned": m * k,
    }
    total = sum(rows.values()) * LANES
    buffer = np.zeros(total + LANES)
    skip = -(buffer.ctypes.data // 8) % LANES
    room, first, arrays = buffer[skip : skip + total].reshape(-1, LANES), 0, {}
    for name, count in rows.items():
        arrays[name] = room[first : first + count]
        first += count
    return Work(
        **arrays,
        counts=np.zeros((4, LANES), np.int64),
        pivots=np.zeros((n, LANES), np.int64),
    )


def queue(starts: np.ndarray, neurons: int, features: int, *, records: int = 0) -> Queue:
    """A queue of packed starts, with room for the ends and for `records` states on the way.

    `status` is -1 until a start has ended.
    """
    count, size = starts.shape
    return Queue(
        starts=starts,
        ends=np.empty((count, size)),
        learned=np.empty((count, neurons, features)),
        peaks=np.empty(count),
        reached=np.empty(count),
        losses=np.empty(count),
        status=np.full(count, -1, np.int64),
        tried=np.empty(count, np.int64),
        next=np.zeros(1, np.int64),
        done=np.zeros(1, np.int64),
        states=np.empty((records, size + 1)),
        losses_on_the_way=np.empty(records),
        kept=np.zeros(1, np.int64),
    )


@compiled
def moment(k, a, b):
    """sum_i moments_i a^i b^(h - i) and its derivatives by a and by b, in Horner's way."""
    value, by_a, by_b = splat(0.0), splat(0.0), splat(0.0)
    power, before = splat(1.0), splat(0.0)  # a^i and a^(i - 1)
    for i in range(k.moments.size):
        by_b = by_b * b + value
        by_a = by_a * b + before * (k.moments[i] * i)
        value = value * b + power * k.moments[i]
        before = power
        power = power * a
    return value, by_a, by_b


@compiled
def moment_second_derivatives(k, a, b):
    """The second derivatives of `moment`, by a twice, by a and b, and by b twice."""
    if k.moments.size == 2:
        return splat(0.0), splat(0.0), splat(0.0)
    # h = 2: moments_0 b^2 + moments_1 a b + moments_2 a^2
    return splat(2.0 * k.moments[2]), splat(k.moments[1]), splat(2.0 * k.moments[0])


@compiled
def velocity(k, w, y, out, at):
    """Write dy/dt into the rows of `out` from `at`, and return the loss.

    Leaves its intermediate values in `w.wide`, `w.square` and `w.thin` for `fill_matrix`.
    """
    m, features, h = k.neurons, k.features, (k.power - 1) // 2
    width, mk, mm, entries = features + m, m * features, m * m, k.rows.size
    wide, square, thin = w.wide, w.square, w.thin
    phi, slope, U, Q, T, B = 0, mk, 2 * mk, 3 * mk, 4 * mk, 5 * mk
    E, R, K, EK = 0, mm, 2 * mm, 3 * mm
    weight, G, direct, shared = 4 * mm, 5 * mm, 6 * mm, 7 * mm
    S, V_F, V_G, own_F, own_G, g_F, g_G = 0, m, 2 * m, 3 * m, 4 * m, 5 * m, 6 * m

    for e in range(entries):
        put(square, E + k.rows[e] * m + k.columns[e], get(y, m * width + e))

    for r in range(m):
        for f in range(features):
            c = get(y, r * width + f)
            even = c * c
            power = even
            for _ in range(h - 1):
                power = power * even
            put(wide, slope + r * features + f, power * (k.power * k.signal[f]))
            put(wide, phi + r * features + f, power * c * k.signal[f])
        for s in range(r + 1):
            dot = splat(0.0)
            for a in range(features, width):
                dot += get(y, r * width + a) * get(y, s * width + a)
            dot = dot * k.noise_variance
            put(square, R + r * m + s, dot)
            put(square, R + s * m + r, dot)

    for r in range(m):
        for s in range(r + 1):
            R_rs = get(square, R + r * m + s)
            b = R_rs * R_rs
            value, by_a, by_b = moment(
                k, get(square, R + r * m + r) * get(square, R + s * m + s), b
            )
            put(square, K + r * m + s, R_rs * value)
            put(square, K + s * m + r, R_rs * value)
            put(square, direct + r * m + s, value + b * by_b * 2.0)
            put(square, direct + s * m + r, value + b * by_b * 2.0)
            put(square, shared + r * m + s, R_rs * by_a)
            put(square, shared + s * m + r, R_rs * by_a)

    loss = splat(0.0)
    for j in range(m):
        same_F, same_G, cross = splat(0.0), splat(0.0), splat(0.0)
        E_jj = get(square, E + j * m + j)
        for f in range(features):
            borrowed = splat(0.0)
            for r in range(m):
                if r != j:
                    borrowed += get(square, E + j * m + r) * get(wide, phi + r * features + f)
            phi_jf = get(wide, phi + j * features + f)
            U_jf = borrowed + E_jj * phi_jf
            put(wide, B + j * features + f, borrowed)
            put(wide, U + j * features + f, U_jf)
            cross += U_jf * phi_jf * k.weights[f]
            same_F += U_jf * U_jf * k.weights[f]
            same_G += phi_jf * phi_jf * k.weights[f]
        noise_F = splat(0.0)
        for s in range(m):
            mixed = splat(0.0)
            for r in range(m):
                mixed += get(square, E + j * m + r) * get(square, K + r * m + s)
            put(square, EK + j * m + s, mixed)
            noise_F += mixed * get(square, E + j * m + s)
        noise_F = noise_F * k.noise_patches
        noise_G = get(square, K + j * m + j) * k.noise_patches
        S_j = cross * k.cross
        F = same_F * k.same + noise_F
        V = same_G * k.same + noise_G
        put(thin, S + j, S_j)
        put(thin, V_F + j, F)
        put(thin, V_G + j, V)
        put(thin, own_F + j, noise_F)
        put(thin, own_G + j, noise_G)
        if k.normalised:
            per_F, per_G = 1.0 / F, 1.0 / V
            scale = root(per_F * per_G)
            loss += 1.0 - S_j * scale
            put(thin, g_F + j, S_j * scale * per_F * 0.5)
            put(thin, g_G + j, S_j * scale * per_G * 0.5)
            to_Q, to_T = scale * per_F * -k.cross, scale * per_G * -k.cross
            for f in range(features):
                phi_jf, B_jf = get(wide, phi + j * features + f), get(wide, B + j * features + f)
                q, t = noise_F * phi_jf, noise_G * get(wide, U + j * features + f)
                for o in range(features):
                    if o != f:
                        phi_jo = get(wide, phi + j * features + o)
                        minor = (get(wide, B + j * features + o) * phi_jf - B_jf * phi_jo) * (
                            k.same * k.weights[o]
                        )
                        q += get(wide, U + j * features + o) * minor
                        t -= phi_jo * minor
                put(wide, Q + j * features + f, to_Q * q * k.weights[f])
                put(wide, T + j * features + f, to_T * t * k.weights[f])
        else:
            loss += (F + V) * 0.5 - S_j
            put(thin, g_F + j, splat(0.5))
            put(thin, g_G + j, splat(0.5))
            for f in range(features):
                U_jf, phi_jf = get(wide, U + j * features + f), get(wide, phi + j * features + f)
                put(wide, Q + j * features + f, (U_jf * k.same - phi_jf * k.cross) * k.weights[f])
                put(wide, T + j * features + f, (phi_jf * k.same - U_jf * k.cross) * k.weights[f])

    for r in range(m):
        for f in range(features):
            g = splat(0.0)
            for j in range(m):
                g += get(square, E + j * m + r) * get(wide, Q + j * features + f)
            g = g * k.to_online + get(wide, T + r * features + f) * k.to_target
            put(out, at + r * width + f, -get(wide, slope + r * features + f) * g)
        for s in range(r + 1):
            total = splat(0.0)
            for j in range(m):
                total += (
                    get(thin, g_F + j) * get(square, E + j * m + r) * get(square, E + j * m + s)
                )
            total = total * k.to_online
            if r == s:
                total += get(thin, g_G + r) * k.to_target
            put(square, weight + r * m + s, total * k.noise_patches)
            put(square, weight + s * m + r, total * k.noise_patches)

    for r in range(m):
        own = splat(0.0)
        for s in range(m):
            W = get(square, weight + r * m + s)
            put(square, G + r * m + s, W * get(square, direct + r * m + s))
            own += W * get(square, shared + r * m + s) * get(square, R + s * m + s)
        put(square, G + r * m + r, get(square, G + r * m + r) + own * 2.0)
    for r in range(m):
        for a in range(features, width):
            g = splat(0.0)
            for s in range(m):
                g += get(square, G + r * m + s) * get(y, s * width + a)
            put(out, at + r * width + a, g * (-2.0 * k.noise_variance))

    for e in range(entries):
        j, r = k.rows[e], k.columns[e]
        g = get(thin, g_F + j) * get(square, EK + j * m + r) * (2.0 * k.noise_patches)
        for f in range(features):
            g += get(wide, Q + j * features + f) * get(wide, phi + r * features + f)
        put(out, at + m * width + e, g * (-k.rho * k.to_online))
    return loss


@compiled
def choose_rescaling(k, w):
    """`kernels.choose_rescaling` and `rescaling_gradient` for every lane."""
    z, v, rescaling, by_z = w.z, w.v, w.rescaling, w.by_z
    m, features = k.neurons, k.features
    width, n = features + m, z.shape[0] - 1
    growth, decay = splat(0.0), splat(0.0)
    best_c, best_n = splat(-1.0), splat(-1.0)
    square_c, own_n = splat(1.0), splat(1.0)
    for r in range(m):
        own, dot = splat(TINY), splat(0.0)
        for i in range(r * width + features, (r + 1) * width):
            z_i = get(z, i)
            own += z_i * z_i
            dot += z_i * get(v, i)
        rate = -dot / own
        best_n = choose_greater(rate, decay, splat(float(r)), best_n)
        own_n = choose_greater(rate, decay, own, own_n)
        decay = choose_greater(rate, decay, rate, decay)
        norm = own
        for i in range(r * width, r * width + features):
            norm += get(z, i) * get(z, i)
        for i in range(r * width, r * width + features):
            z_i = get(z, i)
            square = z_i * z_i
            rate = z_i * get(v, i) / (square + TINY)
            rate = choose_greater(norm * 0.25, square, rate, splat(0.0))
            best_c = choose_greater(rate, growth, splat(float(i)), best_c)
            square_c = choose_greater(rate, growth, square, square_c)
            growth = choose_greater(rate, growth, rate, growth)
    per_time = exponential(-get(z, n))
    total = 1.0 / (per_time + growth + decay)
    put(rescaling, 0, per_time * total)
    put(rescaling, 1, growth * total)
    put(rescaling, 2, decay * total)
    put(rescaling, 3, 1.0 / square_c)
    put(rescaling, 4, 1.0 / own_n)
    put(rescaling, 5, get(z, n))
    put(rescaling, 6, per_time)
    power = -2.0 * (k.power - 1)
    one, zero = splat(1.0), splat(0.0)
    for i in range(n + 1):
        put(by_z, i, zero)
    put(by_z, n, get(rescaling, 0))
    for r in range(m):
        hot = choose_greater(size(best_n - float(r)), splat(0.5), zero, one)
        put(w.chosen_n, r, hot)
        for i in range(r * width + features, (r + 1) * width):
            put(by_z, i, hot * get(rescaling, 2) * get(z, i) * get(rescaling, 4) * power)
        for f in range(features):
            i = r * width + f
            hot = choose_greater(size(best_c - float(i)), splat(0.5), zero, one)
            put(w.chosen_c, r * features + f, hot)
            put(by_z, i, hot * get(rescaling, 1) * get(z, i) * get(rescaling, 3) * power)


@compiled
def time_rescaling(k, w, z):
    """`kernels.time_rescaling` for every lane."""
    rescaling, m, features = w.rescaling, k.neurons, k.features
    width = features + m
    early = exponential(get(rescaling, 5) - get(z, z.shape[0] - 1))
    grown, left = splat(0.0), splat(0.0)
    for r in range(m):
        own = splat(0.0)
        for i in range(r * width + features, (r + 1) * width):
            own += get(z, i) * get(z, i)
        left += own * get(w.chosen_n, r)
        for f in range(features):
            z_i = get(z, r * width + f)
            grown += z_i * z_i * get(w.chosen_c, r * features + f)
    grown, left = grown * get(rescaling, 3), left * get(rescaling, 4)
    power_c, power_n = grown, left
    for _ in range(k.power - 2):
        power_c = power_c * grown
        power_n = power_n * left
    total = get(rescaling, 0) * early + get(rescaling, 1) * power_c + get(rescaling, 2) * power_n
    return 1.0 / total, early


@compiled
def add_to(array, row, value):
    put(array, row, get(array, row) + value)


@compiled
def partials(k, w, j):
    """Write how Q_j, T_j, g_F_j and g_G_j depend on what neuron j depends on.

    By B_j (U_j moving along), by phi_j alone, by U_j alone, by own_F and own_G; `w.local`
    holds, one after the other, Q by B, Q by phi, Q by U (k x k each), Q by own_F, Q by own_G
    (k each), the same five of T, g_F by B, by phi, by U moved by the diagonal (k each), by
    own_F and own_G, and the same of g_G with `thin` rows of its own.
    """
    m, features = k.neurons, k.features
    mk, kk = m * features, features * features
    wide, thin, local = w.wide, w.thin, w.local
    row = j * features
    phi, U, Q, T, B = row, 2 * mk + row, 3 * mk + row, 4 * mk + row, 5 * mk + row
    Q_B, Q_phi, Q_U, T_B, T_phi, T_U = 0, kk, 2 * kk, 3 * kk, 4 * kk, 5 * kk
    tail = 6 * kk
    zero = splat(0.0)
    if not k.normalised:
        for f in range(features):
            for o in range(features):
                same = k.weights[f] * k.same if f == o else 0.0
                cross = k.weights[f] * k.cross if f == o else 0.0
                put(local, Q_B + f * features + o, splat(same))
                put(local, Q_U + f * features + o, splat(same))
                put(local, Q_phi + f * features + o, splat(-cross))
                put(local, T_B + f * features + o, splat(-cross))
                put(local, T_U + f * features + o, splat(-cross))
                put(local, T_phi + f * features + o, splat(same))
        for i in range(8 * features + 4):
            put(local, tail + i, zero)
        return
    F, V = get(thin, m + j), get(thin, 2 * m + j)
    own_F, own_G = get(thin, 3 * m + j), get(thin, 4 * m + j)
    g_F, g_G = get(thin, 5 * m + j), get(thin, 6 * m + j)
    per_F, per_G = 1.0 / F, 1.0 / V
    scale = root(per_F * per_G)
    for f in range(features):
        phi_f, U_f, B_f = get(wide, phi + f), get(wide, U + f), get(wide, B + f)
        Q_f, T_f = get(wide, Q + f), get(wide, T + f)
        to_Q = scale * per_F * (-k.cross * k.weights[f])
        to_T = scale * per_G * (-k.cross * k.weights[f])
        others_U, others_B = zero, zero  # sums over p != f
        others_phi, others_phi_B = zero, zero
        for p in range(features):
            if p != f:
                share = k.same * k.weights[p]
                others_U += get(wide, U + p) * get(wide, phi + p) * share
                others_B += get(wide, U + p) * get(wide, B + p) * share
                others_phi += get(wide, phi + p) * get(wide, phi + p) * share
                others_phi_B += get(wide, phi + p) * get(wide, B + p) * share
        for o in range(features):
            share = k.same * k.weights[o]
            phi_o, U_o, B_o = get(wide, phi + o), get(wide, U + o), get(wide, B + o)
            d_F, d_V = U_o * (2.0 * share) * per_F, phi_o * (2.0 * share) * per_G  # of logs
            if o == f:
                q_U, q_B, q_phi = zero, -others_U, own_F + others_B
                t_U, t_B, t_phi = own_G, others_phi, -others_phi_B
            else:
                minor = B_o * phi_f - B_f * phi_o
                q_U, q_B, q_phi = minor * share, U_o * phi_f * share, -U_o * B_f * share
                t_U, t_B = zero, -phi_o * phi_f * share
                t_phi = (phi_o * B_f - minor) * share
            at = f * features + o
            by_U = to_Q * q_U - Q_f * d_F * 1.5
            put(local, Q_U + at, by_U)
            put(local, Q_B + at, by_U + to_Q * q_B)
            put(local, Q_phi + at, to_Q * q_phi - Q_f * d_V * 0.5)
            by_U = to_T * t_U - T_f * d_F * 0.5
            put(local, T_U + at, by_U)
            put(local, T_B + at, by_U + to_T * t_B)
            put(local, T_phi + at, to_T * t_phi - T_f * d_V * 1.5)
        put(local, tail + f, to_Q * phi_f - Q_f * per_F * 1.5)  # by own_F
        put(local, tail + features + f, Q_f * per_G * -0.5)  # by own_G
        put(local, tail + 2 * features + f, T_f * per_F * -0.5)
        put(local, tail + 3 * features + f, to_T * U_f - T_f * per_G * 1.5)
        half_F, half_G = scale * per_F * 0.5, scale * per_G * 0.5
        by_U, by_phi = phi_f * (k.cross * k.weights[f]), U_f * (k.cross * k.weights[f])  # of S
        d_F = U_f * (2.0 * k.same * k.weights[f]) * per_F
        d_V = phi_f * (2.0 * k.same * k.weights[f]) * per_G
        put(local, tail + 4 * features + f, half_F * by_U - g_F * d_F * 1.5)
        put(local, tail + 5 * features + f, half_F * by_phi - g_F * d_V * 0.5)
        put(local, tail + 6 * features + f, half_G * by_U - g_G * d_F * 0.5)
        put(local, tail + 7 * features + f, half_G * by_phi - g_G * d_V * 1.5)
    put(local, tail + 8 * features, g_F * per_F * -1.5)
    put(local, tail + 8 * features + 1, g_F * per_G * -0.5)
    put(local, tail + 8 * features + 2, g_G * per_F * -0.5)
    put(local, tail + 8 * features + 3, g_G * per_G * -1.5)


@compiled
def fill_matrix(k, w, y, h):
    """Write 1 / (h GAMMA) - Jacobian into `w.M`, after `velocity` and `choose_rescaling`.

    The Jacobian is that of the rescaled flow at the start of a step, where g = 1: that of the
    velocity, plus the velocity times the gradient of log g.
    """
    m, features, power = k.neurons, k.features, k.power
    width, mk, mm, kk = features + m, m * features, m * m, features * features
    n, entries, first = y.shape[0], k.rows.size, m * (features + m)
    wide, square, thin, local, M = w.wide, w.square, w.thin, w.local, w.M
    own_by_n, d_Q, d_T, d_g, d_G, d_row = w.own_by_n, w.d_Q, w.d_T, w.d_g, w.d_G, w.d_row
    v, by_z = w.v, w.by_z
    phi, slope, Q, T = 0, mk, 3 * mk, 4 * mk
    E, R, K, EK = 0, mm, 2 * mm, 3 * mm
    weight, G, direct, shared = 4 * mm, 5 * mm, 6 * mm, 7 * mm
    g_F = 5 * m
    nu, twice = k.noise_patches, 2.0 * k.noise_variance
    a_on, b_on = k.to_online, k.to_target
    tail = 6 * kk
    zero = splat(0.0)

    # Q_j, T_j, g_F_j and g_G_j by everything
    for j in range(m):
        for s in range(m):  # own_F_j by the noise coordinates
            E_js = get(square, E + j * m + s) * nu
            for a in range(m):
                put(own_by_n, s * m + a, zero)
            extra = zero
            for t in range(m):
                both = E_js * get(square, E + j * m + t)
                extra += both * get(square, shared + s * m + t) * get(square, R + t * m + t)
                gamma = both * get(square, direct + s * m + t) * twice
                for a in range(m):
                    add_to(own_by_n, s * m + a, gamma * get(y, t * width + features + a))
            extra = extra * (2.0 * twice)
            for a in range(m):
                add_to(own_by_n, s * m + a, extra * get(y, s * width + features + a))
        by_own_G = (
            get(square, direct + j * m + j)
            + get(square, shared + j * m + j) * get(square, R + j * m + j) * 2.0
        ) * (nu * twice)
        partials(k, w, j)
        for f in range(features):
            row = (j * features + f) * n
            by_F, by_G = get(local, tail + f), get(local, tail + features + f)
            chain(k, w, y, j, d_Q, row, f * features, kk + f * features, 2 * kk + f * features)
            chain_noise(k, w, y, j, d_Q, row, by_F, by_G * by_own_G)
            if b_on != 0.0:
                by_F, by_G = (
                    get(local, tail + 2 * features + f),
                    get(local, tail + 3 * features + f),
                )
                at = 3 * kk + f * features
                chain(k, w, y, j, d_T, row, at, at + kk, at + 2 * kk)
                chain_noise(k, w, y, j, d_T, row, by_F, by_G * by_own_G)
        if k.normalised:
            for which in range(1 if b_on == 0.0 else 2):
                row = (which * m + j) * n
                by_F = get(local, tail + 8 * features + 2 * which)
                by_G = get(local, tail + 8 * features + 2 * which + 1)
                at = tail + (4 + 2 * which) * features
                chain(k, w, y, j, d_g, row, at, at + features, at)
                chain_noise(k, w, y, j, d_g, row, by_F, by_G * by_own_G)

    # G_rs by everything
    for r in range(m):
        gap = r * m + r
        for s in range(r, m):
            R_rs, R_rr, R_ss = (
                get(square, R + r * m + s),
                get(square, R + gap),
                get(square, R + s * m + s),
            )
            straight, aside = get(square, direct + r * m + s), get(square, shared + r * m + s)
            for i in range(n - 1):
                put(d_row, i, zero)
            if k.normalised:
                for j in range(m):
                    both = get(square, E + j * m + r) * get(square, E + j * m + s)
                    put(w.thin_row, j, both * (nu * a_on))
                for i in range(first):
                    total = zero
                    for j in range(m):
                        total += get(w.thin_row, j) * get(d_g, j * n + i)
                    put(d_row, i, total)
                for e in range(entries):
                    j = k.rows[e]
                    put(d_row, first + e, get(w.thin_row, j) * get(d_g, j * n + first + e))
                if r == s and b_on != 0.0:
                    for i in range(n - 1):
                        add_to(d_row, i, get(d_g, (m + r) * n + i) * (nu * b_on))
            for e in range(entries):
                j = k.rows[e]
                by = get(thin, g_F + j) * (nu * a_on)
                if k.columns[e] == r:
                    add_to(d_row, first + e, by * get(square, E + j * m + s))
                if k.columns[e] == s:
                    add_to(d_row, first + e, by * get(square, E + j * m + r))
            at, r_own, s_own = (r * m + s) * n, gap * n, (s * m + s) * n
            to_r, to_s = aside * R_ss * 2.0, aside * R_rr * 2.0
            if r == s:
                # What G_rr has from s < r is there already.
                if r == 0:
                    for i in range(n - 1):
                        put(d_G, at + i, (straight + to_r) * get(d_row, i))
                else:
                    for i in range(n - 1):
                        add_to(d_G, at + i, (straight + to_r) * get(d_row, i))
            else:
                for i in range(n - 1):
                    by = get(d_row, i)
                    put(d_G, at + i, straight * by)
                    add_to(d_G, r_own + i, to_r * by)
                if r == 0:
                    for i in range(n - 1):
                        put(d_G, s_own + i, to_s * get(d_row, i))
                else:
                    for i in range(n - 1):
                        add_to(d_G, s_own + i, to_s * get(d_row, i))
            W = get(square, weight + r * m + s)
            b = R_rs * R_rs
            _, by_a, by_b = moment(k, R_rr * R_ss, b)
            by_aa, by_ab, by_bb = moment_second_derivatives(k, R_rr * R_ss, b)
            straight_a = (by_a + b * by_ab * 2.0) * W
            straight_b = (by_b * 3.0 + b * by_bb * 2.0) * W
            aside_a, aside_b = R_rs * by_aa * W, R_rs * by_ab * W
            aside_rs, aside = by_a * W, aside * W
            for side in range(1 if r == s else 2):
                own = r if side == 0 else s
                for a in range(m):
                    i = own * width + features + a
                    n_r, n_s = get(y, r * width + features + a), get(y, s * width + features + a)
                    d_rr, d_ss, d_rs = n_r * twice, n_s * twice, n_r * twice
                    if r != s:
                        if side == 0:
                            d_ss, d_rs = zero, n_s * k.noise_variance
                        else:
                            d_rr, d_rs = zero, n_r * k.noise_variance
                    d_a = R_ss * d_rr + R_rr * d_ss
                    d_b = R_rs * d_rs * 2.0
                    d_aside = aside_rs * d_rs + aside_a * d_a + aside_b * d_b
                    add_to(d_G, at + i, straight_a * d_a + straight_b * d_b)
                    add_to(d_G, r_own + i, (d_aside * R_ss + aside * d_ss) * 2.0)
                    if r != s:
                        add_to(d_G, s_own + i, (d_aside * R_rr + aside * d_rr) * 2.0)

    # The rows of the inner products
    for r in range(m):
        for f in range(features):
            i = r * width + f
            row, rescaling = i * n, -get(v, i)
            slope_rf = get(wide, slope + r * features + f)
            total = zero
            for j in range(m):
                E_jr = get(square, E + j * m + r)
                total += E_jr * get(wide, Q + j * features + f)
                put(w.thin_row, j, E_jr * slope_rf * a_on)
            for column in range(first):
                value = rescaling * get(by_z, column)
                for j in range(m):
                    value += get(w.thin_row, j) * get(d_Q, (j * features + f) * n + column)
                put(M, row + column, value)
            for e in range(entries):
                j, column = k.rows[e], first + e
                value = get(w.thin_row, j) * get(d_Q, (j * features + f) * n + column)
                if k.columns[e] == r:
                    value += slope_rf * get(wide, Q + j * features + f) * a_on
                put(M, row + column, value)
            put(M, row + n - 1, rescaling * get(by_z, n - 1))
            if b_on != 0.0:
                at = (r * features + f) * n
                for column in range(n - 1):
                    add_to(M, row + column, slope_rf * get(d_T, at + column) * b_on)
            c = get(y, i)
            curve = c * (power * (power - 1) * k.signal[f])
            for _ in range((power - 1) // 2 - 1):
                curve = curve * c * c
            total = total * a_on + get(wide, T + r * features + f) * b_on
            add_to(M, row + i, curve * total)

    # The rows of the noise
    for r in range(m):
        for a in range(m):
            i = r * width + features + a
            row, rescaling = i * n, -get(v, i)
            for s in range(m):
                put(w.thin_row, s, get(y, s * width + features + a) * twice)
            for column in range(n - 1):
                value = rescaling * get(by_z, column)
                for s in range(m):
                    at = (min(r, s) * m + max(r, s)) * n
                    value += get(w.thin_row, s) * get(d_G, at + column)
                put(M, row + column, value)
            put(M, row + n - 1, rescaling * get(by_z, n - 1))
            for s in range(m):
                add_to(M, row + s * width + features + a, get(square, G + r * m + s) * twice)

    # The rows of the head
    for e in range(entries):
        j, r, row, rescaling = k.rows[e], k.columns[e], (first + e) * n, -get(v, first + e)
        rate = k.rho * a_on
        to_g = get(square, EK + j * m + r) * (rate * 2.0 * nu)
        for column in range(first):
            value = to_g * get(d_g, j * n + column)
            for f in range(features):
                value += (
                    get(wide, phi + r * features + f)
                    * get(d_Q, (j * features + f) * n + column)
                    * rate
                )
            put(M, row + column, value + rescaling * get(by_z, column))
        rate_g = get(thin, g_F + j) * (rate * 2.0 * nu)
        for o in range(entries):
            column, value = first + o, zero
            if k.rows[o] == j:
                value = to_g * get(d_g, j * n + column)
                value += rate_g * get(square, K + k.columns[o] * m + r)
                for f in range(features):
                    value += (
                        get(wide, phi + r * features + f)
                        * get(d_Q, (j * features + f) * n + column)
                        * rate
                    )
            put(M, row + column, value)
        put(M, row + n - 1, rescaling * get(by_z, n - 1))
        for f in range(features):
            by = get(wide, Q + j * features + f) * get(wide, slope + r * features + f)
            add_to(M, row + r * width + f, by * rate)
        R_rr = get(square, R + r * m + r)
        for s in range(m):
            factor = rate_g * get(square, E + j * m + s) * k.noise_variance
            along = factor * get(square, direct + s * m + r)
            aside = factor * get(square, shared + s * m + r) * 2.0
            by_s, by_r = aside * R_rr, aside * get(square, R + s * m + s)
            for a in range(m):
                n_s, n_r = get(y, s * width + features + a), get(y, r * width + features + a)
                add_to(M, row + s * width + features + a, along * n_r + by_s * n_s)
                add_to(M, row + r * width + features + a, along * n_s + by_r * n_r)

    # The row of the time, and the diagonal
    last, diagonal, rescaling = (n - 1) * n, 1.0 / (h * GAMMA), -get(v, n - 1)
    for column in range(n - 1):
        put(M, last + column, rescaling * get(by_z, column))
        add_to(M, column * n + column, diagonal)
    put(M, last + n - 1, diagonal + rescaling * (get(by_z, n - 1) - 1.0))


@compiled
def chain(k, w, y, j, out, row, by_B, by_phi, by_U):
    """Write the derivatives of a reading of neuron j by c and by row j of the head.

    `by_B`, `by_phi` and `by_U` are the rows of `w.local` where its derivatives by B_j (with
    U_j), by phi_j and by U_j begin.
    """
    m, features = k.neurons, k.features
    width, mk = features + m, m * features
    first = m * width
    square, wide, local = w.square, w.wide, w.local
    E_jj = get(square, j * m + j)
    for s in range(m):
        E_js = get(square, j * m + s)
        for o in range(features):
            if s == j:
                by = get(local, by_phi + o) + get(local, by_U + o) * E_jj
            else:
                by = get(local, by_B + o) * E_js
            put(out, row + s * width + o, by * get(wide, mk + s * features + o))
    for e in range(k.rows.size):
        if k.rows[e] == j:
            s = k.columns[e]
            kind, by = by_U if s == j else by_B, splat(0.0)
            for o in range(features):
                by += get(local, kind + o) * get(wide, s * features + o)
            put(out, row + first + e, by)


@compiled
def chain_noise(k, w, y, j, out, row, by_F, by_G):
    """The same by the noise coordinates, through own_F_j and own_G_j; after `chain`."""
    m, features = k.neurons, k.features
    width, EK = features + m, 3 * m * m
    for s in range(m):
        for a in range(m):
            put(out, row + s * width + features + a, by_F * get(w.own_by_n, s * m + a))
    for a in range(m):
        i = j * width + features + a
        add_to(out, row + i, by_G * get(y, i))
    for e in range(k.rows.size):
        if k.rows[e] == j:
            by = by_F * get(w.square, EK + j * m + k.columns[e]) * (2.0 * k.noise_patches)
            add_to(out, row + m * width + e, by)


@compiled
def exchange(w, j):
    """Exchange row j, lane by lane, where its pivot is much smaller than another; whether any."""
    M, pivots, n = w.M, w.pivots, w.z.shape[0]
    largest = splat(0.0)
    pivots[j, :] = j
    for i in range(j + 1, n):
        entry = size(get(M, i * n + j))
        largest = choose_greater(entry, largest, entry, largest)
    if not any_greater(largest * PIVOT, size(get(M, j * n + j))):
        return False
    for lane in range(LANES):
        best = j
        for i in range(j + 1, n):
            if abs(M[i * n + j, lane]) > abs(M[best * n + j, lane]):
                best = i
        if PIVOT * abs(M[best * n + j, lane]) > abs(M[j * n + j, lane]):
            pivots[j, lane] = best
            for i in range(n):
                here, there = M[j * n + i, lane], M[best * n + i, lane]
                M[j * n + i, lane], M[best * n + i, lane] = there, here
    return True


@compiled
def factorise(w):
    """LU in place, the diagonal of U inverted; whether rows were exchanged.

    Four columns at a time, so that the rest of the matrix is read and written once for four
    eliminations. Rows are exchanged only where a pivot is much smaller than another candidate:
    the diagonal 1 / (h GAMMA) makes that rare.
    """
    M, n = w.M, w.z.shape[0]
    exchanged = False
    block = 4 if n > 32 else n  # a small matrix stays in the nearest cache anyway
    for first in range(0, n, block):
        end = min(first + block, n)
        for j in range(first, end):
            if exchange(w, j):
                exchanged = True
            inverse = 1.0 / get(M, j * n + j)
            put(M, j * n + j, inverse)
            for i in range(j + 1, n):
                factor = get(M, i * n + j) * inverse
                put(M, i * n + j, factor)
                for column in range(j + 1, end):
                    at = i * n + column
                    put(M, at, get(M, at) - factor * get(M, j * n + column))
        for i in range(first + 1, end):
            for j in range(first, i):
                factor = get(M, i * n + j)
                for column in range(end, n):
                    at = i * n + column
                    put(M, at, get(M, at) - factor * get(M, j * n + column))
        if end == n:
            break
        row = first * n
        for i in range(end, n):
            f_0, f_1 = get(M, i * n + first), get(M, i * n + first + 1)
            f_2, f_3 = get(M, i * n + first + 2), get(M, i * n + first + 3)
            for column in range(end, n):
                value = get(M, i * n + column) - f_0 * get(M, row + column)
                value -= f_1 * get(M, row + n + column)
                value -= f_2 * get(M, row + 2 * n + column)
                value -= f_3 * get(M, row + 3 * n + column)
                put(M, i * n + column, value)
    return exchanged


@compiled
def solve(w, first, exchanged):
    """Solve in place for the stage whose rows of `w.U` start at `first`."""
    M, U, pivots, n = w.M, w.U, w.pivots, w.z.shape[0]
    if exchanged:
        for i in range(n):
            for lane in range(LANES):
                other = pivots[i, lane]
                if other != i:
                    here, there = U[first + i, lane], U[first + other, lane]
                    U[first + i, lane], U[first + other, lane] = there, here
    for i in range(n):
        total, other = get(U, first + i), splat(0.0)
        for j in range(0, i - 1, 2):  # two sums: each waits for its own last term only
            total -= get(M, i * n + j) * get(U, first + j)
            other -= get(M, i * n + j + 1) * get(U, first + j + 1)
        if i % 2 == 1:
            total -= get(M, i * n + i - 1) * get(U, first + i - 1)
        put(U, first + i, total + other)
    for i in range(n - 1, -1, -1):
        total = get(U, first + i)
        for j in range(i + 1, n):
            total -= get(M, i * n + j) * get(U, first + j)
        put(U, first + i, total * get(M, i * n + i))


@compiled
def rosenbrock_step(k, w):
    """One step of Rodas5P from `w.z` into `w.end`, in every lane."""
    z, end, U, n = w.z, w.end, w.U, w.z.shape[0]
    exchanged = factorise(w)
    inverse = 1.0 / get(w.lane, STEP)
    for i in range(n):
        put(U, i, get(w.v, i))
    solve(w, 0, exchanged)
    for stage in range(1, STAGES):
        first = stage * n
        for i in range(n):
            total = get(z, i)
            for before in range(stage):
                total += get(U, before * n + i) * A[stage, before]
            put(end, i, total)
        g, early = time_rescaling(k, w, end)
        velocity(k, w, end, U, first)
        put(U, first + n - 1, early * get(w.rescaling, 6))
        for i in range(n):
            total = splat(0.0)
            for before in range(stage):
                total += get(U, before * n + i) * C[stage, before]
            put(U, first + i, get(U, first + i) * g + total * inverse)
        solve(w, first, exchanged)
    for i in range(n):
        add_to(end, i, get(U, (STAGES - 1) * n + i))


@compiled
def error_norm(k, w, rtol):
    """`kernels.error_norm` of every lane."""
    z, end, U, m, n = w.z, w.end, w.U, k.neurons, w.z.shape[0]
    features = k.features
    width, first = features + m, (STAGES - 1) * n
    error = get(U, first + n - 1)
    total = error * error
    for r in range(m):
        largest = splat(TINY)
        for i in range(r * width, r * width + features):
            c = size(get(z, i))
            largest = choose_greater(c, largest, c, largest)
        largest = largest * 1e-3
        for i in range(r * width, r * width + features):
            c = size(get(end, i))
            error = get(U, first + i) / choose_greater(c, largest, c, largest)
            total += error * error
        noise, wrong = splat(TINY), splat(0.0)
        for i in range(r * width + features, (r + 1) * width):
            noise += get(z, i) * get(z, i)
            wrong += get(U, first + i) * get(U, first + i)
        total += wrong / noise
    floor = splat(0.1 * np.sqrt(k.rho / k.power) + TINY)
    for i in range(m * width, n - 1):
        entry = size(get(end, i))
        error = get(U, first + i) / choose_greater(entry, floor, entry, floor)
        total += error * error
    return root(total * (1.0 / (rtol * rtol * n)))


@compiled
def hermite(w, share, i):
    """Row i at a share of the last step, by cubic interpolation in s; as `kernels.hermite`."""
    x, h, g = share, get(w.lane, LAST_STEP), get(w.lane, LAST_G)
    start, slope = (1.0 + 2.0 * x) * (1.0 - x) ** 2, x * (1.0 - x) ** 2
    stop, end_slope = x * x * (3.0 - 2.0 * x), x * x * (x - 1.0)
    return (
        get(w.z_before, i) * start
        + get(w.v_before, i) * h * slope
        + get(w.z, i) * stop
        + get(w.v, i) * h * g * end_slope
    )


@compiled
def hermite_one(w, lane, share, i):
    """`hermite` of one lane."""
    x, h, g = share, w.lane[LAST_STEP, lane], w.lane[LAST_G, lane]
    return (
        (1.0 + 2.0 * x) * (1.0 - x) ** 2 * w.z_before[i, lane]
        + x * (1.0 - x) ** 2 * h * w.v_before[i, lane]
        + x * x * (3.0 - 2.0 * x) * w.z[i, lane]
        + x * x * (x - 1.0) * h * g * w.v[i, lane]
    )


@compiled
def observe(k, w):
    """After a step: note the times of learning and how far the head has gone."""
    m, features, n = k.neurons, k.features, w.z.shape[0]
    width = features + m
    learned_level, never = splat(LEARNED), splat(1e300)
    for r in range(m):
        for f in range(features):
            i = r * width + f
            open_still = choose_greater(
                get(w.learned, r * features + f), never, size(get(w.z, i)), splat(0.0)
            )
            if not any_greater(open_still, learned_level):
                continue
            for lane in range(LANES):
                if (
                    w.lane[MOVED, lane] == 0.0
                    or w.learned[r * features + f, lane] < np.inf
                    or not abs(w.z[i, lane]) > LEARNED
                ):
                    continue
                low, high = 0.0, 1.0
                for _ in range(40):
                    share = 0.5 * (low + high)
                    if abs(hermite_one(w, lane, share, i)) > LEARNED:
                        high = share
                    else:
                        low = share
                at = np.exp(hermite_one(w, lane, high, n - 1)) - w.lane[OFFSET, lane]
                w.learned[r * features + f, lane] = at
    peak = get(w.lane, PEAK)
    for e in range(k.rows.size):
        if k.rows[e] == k.columns[e]:
            continue
        i = m * width + e
        near, before = size(get(w.z, i)), size(get(w.z_before, i))
        near = choose_greater(before, near, before, near)
        level = peak * 0.9  # far below the peak the interpolation says nothing
        if any_greater(near, level):
            best = choose_greater(near, peak, near, peak)
            for part in range(1, 8):
                value = size(hermite(w, part / 8.0, i))
                best = choose_greater(value, best, value, best)
            peak = choose_greater(near, level, best, peak)
    # A lane that has made no step has none to look back on.
    put(w.lane, PEAK, choose_greater(get(w.lane, MOVED), splat(0.5), peak, get(w.lane, PEAK)))


@compiled
def take(k, w, q, lane):
    """Give the lane the next start; idle if there is none."""
    at = q.next[0]
    w.counts[:, lane] = 0
    w.lane[MOVED, lane] = 0.0
    if at >= q.starts.shape[0]:
        w.counts[START, lane] = IDLE
        return
    q.next[0] += 1
    w.counts[START, lane], w.counts[FRESH, lane] = at, 1
    n = w.z.shape[0] - 1
    for i in range(n):
        w.z[i, lane] = q.starts[at, i]
    w.z[n, lane] = 0.0
    w.lane[STEP_BEFORE, lane], w.lane[ERROR_BEFORE, lane] = 0.0, 0.0
    peak = 0.0
    for r in range(k.neurons):
        for c in range(k.neurons):
            if r != c:
                peak = max(peak, abs(k.head[r, c]))
    w.lane[PEAK, lane] = peak
    width = k.features + k.neurons
    for r in range(k.neurons):
        for f in range(k.features):
            past = abs(w.z[r * width + f, lane]) > LEARNED
            w.learned[r * k.features + f, lane] = 0.0 if past else np.inf


@compiled
def begin(k, w, lane, time):
    """The first step of a fresh start, once its velocity is known."""
    n = w.z.shape[0] - 1
    offset = time
    for i in range(k.neurons * (k.features + k.neurons)):
        if w.z[i, lane] != 0.0 and w.v[i, lane] != 0.0:
            offset = min(offset, 1e-3 * abs(w.z[i, lane] / w.v[i, lane]))
    w.lane[OFFSET, lane], w.lane[GOAL, lane] = offset, np.log(time + offset)
    w.z[n, lane] = np.log(offset)
    w.v[n, lane] = 1.0 / offset
    w.lane[STEP, lane] = 0.1 * offset
    w.counts[FRESH, lane] = 0


@compiled
def finish(k, w, q, lane, status, loss, time):
    """Write where the lane's start ended."""
    at, n = w.counts[START, lane], w.z.shape[0] - 1
    for i in range(n):
        q.ends[at, i] = w.z[i, lane]
    for r in range(k.neurons):
        for f in range(k.features):
            q.learned[at, r, f] = w.learned[r * k.features + f, lane]
    q.peaks[at], q.losses[at] = w.lane[PEAK, lane], loss
    reached = np.exp(w.z[n, lane]) - w.lane[OFFSET, lane]
    q.reached[at] = time if status == REACHED else reached
    q.status[at], q.tried[at] = status, w.counts[TRIED, lane]
    q.done[0] += 1


@compiled
def shorten(w, lane, error):
    """Shorten the step of a lane that was not accepted; the status if its start ends here."""
    n = w.z.shape[0] - 1
    now, end, goal = w.z[n, lane], w.end[n, lane], w.lane[GOAL, lane]
    h, status = w.lane[STEP, lane], REACHED
    if error <= 1.0:  # beyond the end: aim at it, with the step that is known by now
        h *= (goal - now) / (end - now)
    else:
        w.counts[REJECTED, lane] = 1
        h *= max(0.1, 0.9 * error**-0.2) if np.isfinite(error) else 0.1
    fastest = 0.0
    for i in range(n):
        fastest = max(fastest, abs(w.v[i, lane]))
    if h * fastest < STILL:
        status = STEP_TOO_SMALL
    w.lane[STEP, lane] = h
    return status


@compiled
def accept(w, error, g):
    """Move the lanes whose step is good to its end, and choose their next step.

    Writes 1 into `MOVED` for these lanes. Gustafsson's predictive controller, as in
    `kernels.flow`; `ERROR_BEFORE` holds a logarithm here.
    """
    n, lane = w.z.shape[0], w.lane
    zero, one = splat(0.0), splat(1.0)
    good = choose_greater(splat(1.0 + 1e-15), error, one, zero)  # nan is not good
    beyond = get(w.end, n - 1) - get(lane, GOAL)
    good = choose_greater(beyond, splat(CLOSE), zero, good)
    half = splat(0.5)
    for i in range(n):
        z = get(w.z, i)
        put(w.z_before, i, choose_greater(good, half, z, get(w.z_before, i)))
        put(w.v_before, i, choose_greater(good, half, get(w.v, i), get(w.v_before, i)))
        put(w.z, i, choose_greater(good, half, get(w.end, i), z))
    h, before, log_before = get(lane, STEP), get(lane, STEP_BEFORE), get(lane, ERROR_BEFORE)
    error = choose_greater(error, splat(1e-8), error, splat(1e-8))
    error = choose_greater(error, one, one, error)
    log_error = logarithm(error)
    plain = exponential(log_error * -0.2) * 0.9
    ratio = h / choose_greater(before, zero, before, one)
    predicted = plain * ratio * exponential((log_before - log_error) * 0.2)
    factor = choose_greater(predicted, plain, plain, predicted)
    factor = choose_greater(before, zero, factor, plain)
    factor = choose_greater(factor, splat(0.2), factor, splat(0.2))
    factor = choose_greater(factor, splat(8.0), splat(8.0), factor)
    for i in range(LANES):
        w.d_row[0, i] = 1.0 if w.counts[REJECTED, i] else 8.0
    limit = get(w.d_row, 0)
    factor = choose_greater(factor, limit, limit, factor)
    floor = splat(-4.605170185988091)  # log 1e-2
    log_kept = choose_greater(log_error, floor, log_error, floor)
    moved = h * g
    put(lane, LAST_STEP, choose_greater(good, half, h, get(lane, LAST_STEP)))
    put(lane, LAST_G, choose_greater(good, half, g, get(lane, LAST_G)))
    put(lane, STEP_BEFORE, choose_greater(good, half, moved, before))
    put(lane, ERROR_BEFORE, choose_greater(good, half, log_kept, log_before))
    put(lane, STEP, choose_greater(good, half, moved * factor, h))
    put(lane, MOVED, good)


@compiled
def prepare(k, w, q):
    """Fill the lanes for the first time."""
    for r in range(k.neurons):
        for c in range(k.neurons):
            put(w.square, r * k.neurons + c, splat(k.head[r, c]))
    for i in range(w.z.shape[0]):  # what idle lanes compute with
        put(w.z, i, splat(0.5))
    for i in range(9):
        put(w.lane, i, splat(1.0))
    for lane in range(LANES):
        take(k, w, q, lane)


@compiled
def advance(k, w, q, time, rtol, max_steps, rounds):
    """At most `rounds` steps in every lane; whether starts are left.

    Returns early where the records are full: the caller makes room and calls again.
    """
    n, count = w.z.shape[0] - 1, q.starts.shape[0]
    records = q.states.shape[0]
    for _ in range(rounds):
        if q.done[0] >= count:
            return False
        if records > 0 and q.kept[0] == records:
            return True
        loss = velocity(k, w, w.z, w.v, 0)
        put(w.v, n, exponential(-get(w.z, n)))
        observe(k, w)
        finite = splat(0.0)
        for i in range(n + 1):
            finite += get(w.v, i) * 0.0
        late = get(w.z, n) - get(w.lane, GOAL) + CLOSE
        # 1 where a lane needs a look: at its goal, or not finite
        look = choose_greater(
            splat(1.0), finite, choose_greater(late, splat(0.0), splat(1.0), finite), splat(1.0)
        )
        put(w.d_row, 0, loss)
        put(w.d_row, 1, look)
        refilled = False
        for lane in range(LANES):
            new = w.counts[FRESH, lane] == 1
            if not (new or records > 0 or w.d_row[1, lane] > 0.5):
                continue
            if w.counts[START, lane] == IDLE:
                continue
            if new:
                begin(k, w, lane, time)
            if records > 0 and lane == 0 and (new or w.lane[MOVED, lane] > 0.5):
                for i in range(n + 1):
                    q.states[q.kept[0], i] = w.z[i, lane]
                q.losses_on_the_way[q.kept[0]] = w.d_row[0, lane]
                q.kept[0] += 1
            known = True
            for i in range(n + 1):
                known = known and np.isfinite(w.v[i, lane])
            if w.z[n, lane] >= w.lane[GOAL, lane] - CLOSE or not known:
                status = REACHED if known else NOT_FINITE
                finish(k, w, q, lane, status, w.d_row[0, lane], time)
                take(k, w, q, lane)
                refilled = True
        if refilled:
            put(w.lane, MOVED, splat(0.0))
            continue
        choose_rescaling(k, w)
        fill_matrix(k, w, w.z, get(w.lane, STEP))
        rosenbrock_step(k, w)
        error = error_norm(k, w, rtol)
        g, _ = time_rescaling(k, w, w.end)
        accept(w, error, g)
        put(w.d_row, 0, error)
        put(w.d_row, 1, loss)
        for lane in range(LANES):
            if w.counts[START, lane] == IDLE:
                continue
            w.counts[TRIED, lane] += 1
            status = REACHED
            if w.lane[MOVED, lane] > 0.5:
                w.counts[REJECTED, lane] = 0
                if w.counts[TRIED, lane] >= max_steps:  # the step does not count
                    for i in range(n + 1):
                        w.z[i, lane] = w.z_before[i, lane]
                    status = TOO_MANY_STEPS
            else:
                status = shorten(w, lane, w.d_row[0, lane])
                if status == REACHED and w.counts[TRIED, lane] >= max_steps:
                    status = TOO_MANY_STEPS
            if status != REACHED:
                finish(k, w, q, lane, status, w.d_row[1, lane], time)
                take(k, w, q, lane)
    return q.done[0] < count


@compiled
def derivatives(k, w):
    """The velocity at `w.z` into `w.v`, minus its Jacobian into `w.M`, the loss into `w.d_row`.

    For tests: no kernel calls it.
    """
    for r in range(k.neurons):
        for c in range(k.neurons):
            put(w.square, r * k.neurons + c, splat(k.head[r, c]))
    loss = velocity(k, w, w.z, w.v, 0)
    for i in range(w.by_z.shape[0]):
        put(w.by_z, i, splat(0.0))
    fill_matrix(k, w, w.z, splat(np.inf))
    put(w.d_row, 0, loss)
