"""Every loss that the installed lightly ships, as shipped, on the digits, judged by the verdict.

    python benchmarks/peer_losses.py [--steps 300] [--seeds 0]

One encoder, projector, optimiser and budget for all; only the loss differs. A loss of two
views of projections is trained as documented there: with no head, both branches trained, unless
the loss is one of a prediction and a target. Prints one row a loss: kNN of the features on
held-out digits, effective rank of the projection, and the verdict with its step.
"""

import argparse
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import lightly
import lightly.loss as losses
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offdiag.data.loader import TwoViewLoader
from offdiag.data.readers import digits
from offdiag.data.view_recipes import VIEWS
from offdiag.diagnostics.readings import read_part
from offdiag.diagnostics.verdict import judge
from offdiag.encoders import small_conv
from offdiag.evaluation.features import extract
from offdiag.evaluation.protocol import knn_accuracies
from offdiag.methods.method import AbstractMethod, Embedded, Output
from offdiag.projectors import projector
from offdiag.results.observation import Observation
from offdiag.training.fit import fit

DIM = 64
Loss = Callable[[Tensor, Tensor], Tensor]


def wrapped() -> dict[str, Callable[[], Loss]]:
    """Each loss of two views of projections, by its class's name, called as its docs say."""

    def normed(z: Tensor) -> Tensor:
        return F.normalize(z, dim=1)

    def pair(cls: Any, **settings: Any) -> Callable[[], Loss]:
        return lambda: cls(**settings)

    def views_list(cls: Any) -> Callable[[], Loss]:
        def make() -> Loss:
            loss = cls()
            return lambda a, b: loss([a, b])

        return make

    def stacked(cls: Any) -> Callable[[], Loss]:
        def make() -> Loss:
            loss = cls()
            return lambda a, b: loss(
                local_proj=torch.stack((a, b)), global_proj=torch.stack((a, b))
            )

        return make

    def mmcr() -> Loss:
        loss = losses.MMCRLoss()
        return lambda a, b: loss(normed(a)[:, None], normed(b)[:, None])

    def wmse() -> Loss:
        loss = losses.WMSELoss(embedding_dim=DIM, w_size=128)
        return lambda a, b: loss(torch.cat((a, b)))

    def koleo() -> Loss:
        spread, near = losses.KoLeoLoss(), losses.NegativeCosineSimilarity()
        return lambda a, b: near(a, b) + 0.1 * (spread(a) + spread(b))

    return {
        "BarlowTwinsLoss": pair(losses.BarlowTwinsLoss),
        "VICRegLoss": pair(losses.VICRegLoss),
        "NTXentLoss": pair(losses.NTXentLoss),
        "DCLLoss": pair(losses.DCLLoss),
        "DCLWLoss": pair(losses.DCLWLoss),
        "TiCoLoss": pair(losses.TiCoLoss),
        "FroSSLLoss": views_list(losses.FroSSLLoss),
        "EMPSSLLoss": views_list(losses.EMPSSLLoss),
        "LeJEPALoss": stacked(losses.LeJEPALoss),
        "VISRegLoss": stacked(losses.VISRegLoss),
        "MMCRLoss": mmcr,
        "WMSELoss": wmse,
        "KoLeoLoss, .1 of it with the cosine": koleo,
    }


class Peer(AbstractMethod):
    """A loss of another package on the projections of two views."""

    def __init__(self, encoder: nn.Module, projection: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projection
        self.loss = loss

    def forward(self, *views: Any) -> Output:
        features, projection, _ = zip(*self.embed_views(*views), strict=True)
        loss = self.loss(*projection)
        return Output(loss, {}, Embedded(features, projection))


def train(make: Callable[[], Loss], *, steps: int, seed: int) -> tuple[float, float, str]:
    """kNN of the features, effective rank of the projection, and the verdict in words."""
    torch.manual_seed(seed)
    encoder = small_conv(1)
    method = Peer(encoder, projector((encoder.dim, 256, DIM)), make())
    splits = digits()
    loader = TwoViewLoader(splits.pretrain, batch_size=256, seed=seed, recipe=VIEWS["digits"])
    history: list[Observation] = []

    def observe(metrics: Any) -> None:
        found = extract(method, splits.pretrain, whole=loader.normalisation)
        parts = {"encoder": read_part(found.features), "projector": read_part(found.projection)}
        history.append(Observation(step=metrics.step, parts=parts, head=None, loss=metrics.loss))

    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    fit(method, loader, optimizer, steps=steps, log_every=max(1, steps // 30), on_log=observe)
    assert splits.train is not None and splits.test is not None
    ends = [extract(method, s, whole=loader.normalisation) for s in (splits.train, splits.test)]
    verdict = judge(history)
    since = "" if verdict.since_step is None else f" since step {verdict.since_step}"
    rank = history[-1].parts["projector"].effective_rank
    return knn_accuracies(*ends)["features"], rank, f"{verdict.kind}{since}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"lightly {lightly.__version__}, torch {torch.__version__}, {chosen.steps} steps")
    print(f"{'loss':36} {'seed':>4} {'kNN':>6} {'rank':>6}  verdict")
    table = wrapped()
    for name, make in table.items():
        for seed in chosen.seeds:
            knn, rank, verdict = train(make, steps=chosen.steps, seed=seed)
            print(f"{name:36} {seed:4} {knn:6.3f} {rank:6.1f}  {verdict}", flush=True)
    tried = {name.partition(",")[0] for name in table}
    others = [n for n, c in vars(losses).items() if inspect.isclass(c) and n not in tried]
    print(f"not tried here: {', '.join(sorted(others))}")


if __name__ == "__main__":
    main()
