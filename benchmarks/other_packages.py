"""Where do other packages' readings differ from ours, by how much, and why?

    python benchmarks/other_packages.py

Prints Markdown tables. The columns "by formula" compute what a package's code says, written anew
here; the columns "package" ask the package itself where it can be imported (lightly,
stable-pretraining, reptrix), and show a dash where it cannot. Data are Gaussian with a known
rank, one seed; nothing takes more than seconds.
"""

import importlib.metadata
import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from offdiag.diagnostics.spectrum import (
    alpha_req,
    covariance,
    effective_rank,
    normalised_std,
    rankme,
    spectrum,
)
from offdiag.diagnostics.views import lidar

DIM, IMAGES, BATCH = 64, 1024, 128


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_rank(rows: int, rank: int, dim: int) -> Tensor:
    return gaussian(rows, rank) @ gaussian(rank, dim, seed=1) / rank**0.5


def asked(ask: Callable[[], float]) -> str:
    """What a package answers; a dash if it cannot be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return f"{ask():.4g}"
    except ImportError:
        return "-"


def lightly_std(z: Tensor) -> float:
    from lightly.utils.debug import std_of_l2_normalized

    return std_of_l2_normalized(z).item()


def stable_pretraining(z: Tensor, callback: type, **settings: object) -> float:
    """What a callback logs at the first validation batch, with `z` in its queue."""
    logged: list[float] = []
    asked = callback.__new__(callback)
    vars(asked).update(name="it", verbose=False, _target_queue=SimpleNamespace(data=z), **settings)
    trainer = SimpleNamespace(global_rank=0)
    module = SimpleNamespace(log=lambda name, value, **how: logged.append(value))
    asked.on_validation_batch_end(trainer, module, {}, {}, 0)
    return logged[0]


def stable_rankme(z: Tensor) -> float:
    from stable_pretraining.callbacks.rankme import RankMe

    return stable_pretraining(z, RankMe)


def stable_lidar(z: Tensor, samples_per_class: int = 10) -> float:
    from stable_pretraining.callbacks.lidar import LiDAR

    classes = 100 if samples_per_class == 10 else len(z) // samples_per_class
    return stable_pretraining(
        z,
        LiDAR,
        n_classes=classes,
        samples_per_class=samples_per_class,
        delta=1e-4,
        epsilon=1e-8,
    )


def reptrix_rankme(z: Tensor) -> float:
    from reptrix.rankme import get_rankme

    return float(get_rankme(z))


def reptrix_alpha(z: Tensor) -> float:
    from reptrix.alpha import get_alpha

    return float(get_alpha(z)[0])


def reptrix_lidar(views: Tensor) -> float:
    from reptrix.lidar import get_lidar

    return float(get_lidar(views, len(views), views.shape[1]))


def rank_of_variances(covariance: Tensor, rows: int) -> float:
    """exp H(p + 1e-7), p the shares of variance."""
    p = spectrum(covariance)[:rows] + 1e-7
    return torch.special.entr(p).sum().exp().item()


def rank_of_matrix_rows(views: Tensor) -> float:
    """The same of the rows of Sw^-1/2 Sb Sw^-1/2, taken as if they were samples."""
    z = views.double()
    means = z.mean(1)
    within, between = z - means[:, None], means - means.mean(0)
    inside = torch.einsum("ijk,ijl->kl", within, within) / len(z) + 1e-6 * torch.eye(z.shape[2])
    values, vectors = torch.linalg.eigh(inside)
    root = vectors @ (values**-0.5).diag() @ vectors.T
    return rank_of_variances(covariance(root @ between.T @ between @ root), DIM)


def table(title: str, head: str, rows: list[list[str]]) -> None:
    print(f"\n**{title}**\n\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def views_of(rank: int) -> tuple[Tensor, Tensor]:
    """Two views of images that differ in `rank` directions of 64; augmentation adds noise."""
    images = torch.nn.functional.pad(gaussian(IMAGES, rank), (0, DIM - rank))
    return tuple(images + 0.1 * gaussian(IMAGES, DIM, seed=seed) for seed in (1, 2))


def view_major(a: Tensor, b: Tensor) -> Tensor:
    """Batches of 128 images, each as most training code stacks it: first views, then second."""
    pairs = zip(a.split(BATCH), b.split(BATCH), strict=True)
    return torch.cat([torch.cat(pair) for pair in pairs])


def main() -> None:
    found = []
    for name in ("torch", "lightly", "stable-pretraining", "reptrix"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    print(f"Python {sys.version.split()[0]}, {', '.join(found)}")

    rows = []
    for count in (1, 2, 8, 256):
        z = gaussian(count, DIM)
        bessel = (count / (count - 1)) ** 0.5 if count > 1 else float("nan")
        rows.append(
            [
                str(count),
                f"{normalised_std(z).item():.4g}",
                f"{normalised_std(z).item() * bessel:.4g}",
                asked(lambda z=z: lightly_std(z)),
            ]
        )
    line = of_rank(256, 1, DIM)
    rows.append(
        [
            "256 on one line",
            f"{normalised_std(line).item():.4g}",
            f"{normalised_std(line).item() * (256 / 255) ** 0.5:.4g}",
            asked(lambda: lightly_std(line)),
        ]
    )
    table(
        "std of l2-normalised rows, 64 dimensions (1/sqrt(64) = 0.125)",
        "rows | offdiag, divides by n | divides by n - 1, by formula | lightly",
        rows,
    )

    rows = []
    cases = ((2048, 1, 0), (2048, 8, 0), (2048, 64, 0), (64, 8, 0), (64, 64, 0), (64, 64, 2))
    for dim, rank, shift in cases:
        z = of_rank(1024, rank, dim) if rank < dim else gaussian(1024, dim)
        z = z + shift
        rows.append(
            [
                f"{rank} of {dim}" + (f", mean {shift}" if shift else ""),
                f"{rankme(z).item():.4g}",
                f"{rankme(z, epsilon=1e-5).item():.4g}",
                asked(lambda z=z: stable_rankme(z)),
                f"{effective_rank(covariance(z)).item():.4g}",
                f"{rank_of_variances(covariance(z), len(z)):.4g}",
                asked(lambda z=z: reptrix_rankme(z)),
            ]
        )
    table(
        "RankMe of 1,024 rows",
        "true rank | offdiag (1e-7) | epsilon 1e-5, by formula | stable-pretraining | "
        "centred (our effective rank) | of variances, centred, by formula | reptrix",
        rows,
    )

    rows = []
    for rank in (2, 8, 32, 64):
        a, b = views_of(rank)
        stacked, grouped = view_major(a, b), torch.stack((a, b), 1)
        interleaved = grouped.reshape(-1, DIM)
        rows.append(
            [
                str(rank),
                f"{lidar(grouped).item():.4g}",
                f"{lidar(stacked[:1000].reshape(100, 10, DIM)).item():.4g}",
                asked(lambda z=stacked: stable_lidar(z)),
                asked(lambda z=interleaved: stable_lidar(z)),
                asked(lambda z=interleaved: stable_lidar(z, 2)),
                f"{rank_of_matrix_rows(grouped):.4g}",
                asked(lambda z=grouped: reptrix_lidar(z)),
            ]
        )
    table(
        "LiDAR, 1,024 images, 2 views, noise .1 in all 64 dimensions",
        "true rank | offdiag, (image, view) | ten in a row of view-major batches, by formula | "
        "stable-pretraining, the same (default) | its default on interleaved views | "
        "it, interleaved and samples_per_class=2 | variances of the matrix's rows, by formula | "
        "reptrix",
        rows,
    )

    rows = []
    for alpha in (0.5, 1.0, 2.0):
        power = torch.arange(1, 513) ** (-alpha / 2)
        broken = torch.where(torch.arange(512) < 50, power, power * 0.3)
        for name, scale in (("", power), (", a step down after the 50th", broken)):
            z = gaussian(8192, 512) * scale
            shares = spectrum(covariance(z))
            rows.append(
                [
                    f"{alpha:g}{name}",
                    f"{alpha_req(shares).item():.4g}",
                    f"{alpha_req(shares, first=11, last=100).item():.4g}",
                    asked(lambda z=z: reptrix_alpha(z)),
                ]
            )
    table(
        "alpha-ReQ, 8,192 rows of 512 dimensions",
        "true alpha | offdiag, j = 11..50 | j = 11..100, by formula | reptrix",
        rows,
    )


if __name__ == "__main__":
    main()
