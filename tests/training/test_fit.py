"""`fit(method, batches, optimizer, steps=200)` takes anything that gives views."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import offdiag
from offdiag._checks import ConfigError
from offdiag.data.samples import GraphBatch
from offdiag.training.fit import fit, views_of

DIM = 6


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(*shape):
    clean = drawn(16, *shape)
    return clean + drawn(16, *shape, seed=1) / 10, clean + drawn(16, *shape, seed=2) / 10


class InForm(Dataset):
    """((view, view), label), as lightly's loaders give it."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        clean = drawn(5, seed=index)
        return (clean + 0.1, clean - 0.1), index % 3, f"{index}.png"


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True)
        self.out = nn.Linear(4, DIM)

    def forward(self, tokens):
        return self.out(self.mix(tokens).mean(1))


class Degrees(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, DIM)

    def forward(self, graph):
        start, end = graph.edges
        return self.layer(graph.nodes).index_add(0, end, graph.nodes[start] @ self.layer.weight.T)[
            graph.rows
        ]


def signal_net():
    return nn.Sequential(nn.Conv1d(2, DIM, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def graphs():
    edges = torch.stack((torch.arange(16), torch.arange(16).roll(1)))
    return tuple(GraphBatch(nodes, edges, torch.arange(16)) for nodes in pair(4))


CASES = {
    "tensors": (lambda: [pair(5)], lambda: nn.Linear(5, DIM)),
    "tensors with labels": (lambda: [(pair(5), torch.arange(16))], lambda: nn.Linear(5, DIM)),
    "lightly's form": (lambda: DataLoader(InForm(), batch_size=16), lambda: nn.Linear(5, DIM)),
    "tokens": (lambda: [pair(7, 4)], Tokens),
    "signals": (lambda: [pair(2, 20)], signal_net),
    "graphs": (lambda: [graphs()], Degrees),
}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_falls_whatever_the_views_are_of(name):
    make, net = CASES[name]
    torch.manual_seed(0)
    method = offdiag.SimSiam(
        offdiag.Encoder(net(), dim=DIM),
        offdiag.projector((DIM, 8, 4)),
        head=offdiag.IdentityInitHead(4),
    )
    losses = []
    progress = fit(
        method,
        make(),
        torch.optim.Adam(method.parameters(), lr=3e-3),
        steps=40,
        log_every=10,
        on_log=lambda metrics: losses.append(metrics.loss),
    )
    assert progress.step == 40 and len(losses) == 4
    assert losses[-1] < losses[0]


def test_the_views_of_a_batch_are_found():
    a, b = pair(5)
    for batch in ((a, b), [a, b], ((a, b), "labels"), ([a, b], "labels", "names")):
        first, second = views_of(batch, "cpu")
        assert first is a and second is b
    first, second = views_of(graphs(), "cpu")
    assert isinstance(first, GraphBatch) and isinstance(second, GraphBatch)
    tokens, others = views_of((({"x": a}, {"x": b}), 1), "cpu")
    assert tokens["x"] is a and others["x"] is b


@pytest.mark.parametrize("batch", [torch.zeros(4, 2), (torch.zeros(4, 2),), graphs()[0]])
def test_what_is_no_tuple_of_views_is_refused(batch):
    with pytest.raises(ConfigError, match="a tuple of two views or more"):
        views_of(batch, "cpu")
