"""Slow references: each reading written plainly in NumPy from its formula, in loops where clear."""

import numpy as np


def singular_values(z, *, centred):
    z = np.asarray(z, dtype=np.float64)
    if centred:
        z = z - z.mean(0)
    s = np.zeros(z.shape[1])
    found = np.linalg.svd(z, compute_uv=False)
    s[: len(found)] = found
    return np.where(s > 1e-7 * s.max(), s, 0.0)


def entropy(p):
    return -sum(x * np.log(x) for x in p if x > 0)


def part(z):
    """Every reading that one view gives, from singular values of the rows themselves."""
    z = np.asarray(z, dtype=np.float64)
    rows, dim = z.shape
    s, raw = singular_values(z, centred=True), singular_values(z, centred=False)
    p = raw[: min(rows, dim)] / raw.sum() + 1e-7
    energy = s**2
    shares = energy / energy.sum()
    sphere = np.array([row / np.linalg.norm(row) for row in z])
    return {
        "effective_rank": np.exp(entropy(s / s.sum())),
        "rankme": np.exp(entropy(p)),
        "participation_ratio": energy.sum() ** 2 / (energy**2).sum(),
        "nesum": sum(energy / energy[0]),
        "stable_rank": (z**2).sum() / np.linalg.norm(z, 2) ** 2,
        "numerical_rank": float(sum(s > 1e-2 * s[0])),
        "condition_number": s[0] / s[-1] if s[-1] > 0 else np.inf,
        "alpha_req": power_law(energy),
        "matrix_entropy": entropy(shares),
        "singular_value_auc": sum(sum(s[: j + 1]) / sum(s) for j in range(dim)) / dim,
        "isoscore": isoscore(energy),
        "top_share": shares[0],
        "mean_share": (z.mean(0) ** 2).sum() / (z**2).sum(1).mean(),
        "std": np.mean([sphere[:, i].std() for i in range(dim)]),
        "uniformity": uniformity(z),
        "mean_cosine": np.mean(
            [x @ y for i, x in enumerate(sphere) for j, y in enumerate(sphere) if i != j]
        ),
    }


def isoscore(energy):
    """Step by step as in the paper: normalise, distance from the vector of ones, phi, score."""
    D = len(energy)
    normalised = np.sqrt(D) * energy / np.linalg.norm(energy)
    defect = np.linalg.norm(normalised - np.ones(D)) / np.sqrt(2 * (D - np.sqrt(D)))
    phi = (D - defect**2 * (D - np.sqrt(D))) ** 2 / D**2
    return (D * phi - 1) / (D - 1)


def power_law(energy, first=11, last=50):
    positive = int((energy > 0).sum())
    if positive < last:
        first, last = max(1, round(first * positive / last)), positive
    if last - first < 2:
        return np.nan
    j = np.arange(first, last + 1)
    slope, _ = np.polyfit(np.log(j), np.log(energy[first - 1 : last]), 1, w=j**-0.5)
    return -slope


def uniformity(z, t=2):
    z = [row / np.linalg.norm(row) for row in np.asarray(z, dtype=np.float64)]
    pairs = [(i, j) for i in range(len(z)) for j in range(i + 1, len(z))]
    return np.log(np.mean([np.exp(-t * ((z[i] - z[j]) ** 2).sum()) for i, j in pairs]))


def alignment(a, b):
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    return np.mean([2 - 2 * cosine for cosine in cosines])


def lidar(views, delta=1e-4, epsilon=1e-8):
    views = np.asarray(views, dtype=np.float64)
    objects, q, dim = views.shape
    means = [views[i].mean(0) for i in range(objects)]
    grand = np.mean(means, axis=0)
    between, within = np.zeros((dim, dim)), delta * np.eye(dim)
    for i in range(objects):
        between += np.outer(means[i] - grand, means[i] - grand) / (objects - 1)
        for j in range(q):
            d = views[i, j] - means[i]
            within += np.outer(d, d) / (objects * (q - 1))
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    found = np.sort(np.linalg.eigvalsh(root @ between @ root))[::-1]
    p = np.clip(found, 0, None)[: min(objects - 1, dim)]
    return np.exp(entropy(p / p.sum() + epsilon))


def head(weight, z):
    """What a head does to the rows it is given, measured on the rows."""
    E, z = np.asarray(weight, dtype=np.float64), np.asarray(z, dtype=np.float64)
    dim = len(E)
    C = sum(np.outer(row, row) for row in z) / len(z)
    _, vectors = np.linalg.eigh(C)
    cosines = [v @ E @ v / np.linalg.norm(E @ v) for v in vectors.T]
    own = np.mean([sum((E[i, i] * row[i]) ** 2 for i in range(dim)) for row in z])
    lent = np.mean([(((E - np.diag(np.diag(E))) @ row) ** 2).sum() for row in z])
    u, s, vh = np.linalg.svd(E)
    return {
        "rank": float(sum(s > 1e-2 * s[0])),
        "polar_distance": np.linalg.norm(E - u @ vh),
        "eigenspace_alignment": np.mean(np.abs(cosines)),
        "commutator": np.linalg.norm(E @ C - C @ E) / np.linalg.norm(E) / np.linalg.norm(C),
        "off_diagonal_share": lent / (own + lent),
    }
