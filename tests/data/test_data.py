"""Laws of data of any kind: what a source gives, and that seed and step decide the views."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from offdiag._checks import ConfigError, DataError
from offdiag.data import nest
from offdiag.data.data import Data
from offdiag.data.dataset import Dataset, in_order
from offdiag.data.loader import ViewLoader
from offdiag.data.samples import Graph, GraphBatch, Samples, TorchSource
from offdiag.runs.fingerprint import fingerprint

COUNT = 12


def drawn(*shape):
    return torch.randn(COUNT, *shape, generator=torch.Generator().manual_seed(0))


def labels():
    return torch.arange(COUNT) % 3


def graph():
    edges = torch.stack((torch.arange(COUNT), (torch.arange(COUNT) + 1) % COUNT))
    return Graph(nodes=drawn(4), edges=edges, labels=labels())


def images(dtype, channels):
    top = 255 if dtype == torch.uint8 else 65535
    values = (drawn(channels, 6, 6).abs() / 4 * top).clamp(0, top).to(dtype)
    return Dataset(images=values, labels=labels(), classes=("a", "b", "c"), name="pictures")


SOURCES = {
    "vectors": lambda: Samples(drawn(5), labels=labels()),
    "arrays": lambda: Samples(drawn(5).numpy(), labels=labels().numpy()),
    "signals": lambda: Samples(drawn(2, 16), labels=labels()),
    "tokens": lambda: Samples(drawn(7, 3), labels=labels()),
    "transitions": lambda: Samples((drawn(4), labels(), drawn(4)), labels=labels()),
    "dict": lambda: Samples({"x": drawn(4), "mask": drawn(4) > 0}, labels=labels()),
    "torch dataset": lambda: TorchSource(TensorDataset(drawn(5), labels()), labelled=True),
    "torch loader": lambda: TorchSource(
        DataLoader(TensorDataset(drawn(5), labels()), batch_size=2), labelled=True
    ),
    "graph": graph,
    "8 bits, 5 channels": lambda: images(torch.uint8, 5),
    "16 bits, 2 channels": lambda: images(torch.uint16, 2),
}


def noisy(batch, generator):
    """Two views of any nest: noise on every tensor of floats, edges and integers as they are."""

    def noise(leaf):
        if not leaf.is_floating_point():
            return leaf
        return leaf + torch.randn(leaf.shape, generator=generator)

    return tuple(nest.mapped(noise, batch) for _ in range(2))


def equal(a, b):
    pairs = list(zip(nest.leaves(a), nest.leaves(b), strict=True))
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]()


def test_a_source_gives_the_rows_that_are_asked_for(source):
    assert len(source) == COUNT and source.classes[:1] in (("0",), ("a",))
    rows = torch.tensor([3, 1, 7])
    ((part, classes),) = source.read([rows])
    assert classes.tolist() == (rows % 3).tolist()
    again = source.subset(rows)
    assert len(again) == 3 and torch.equal(again.labels, classes)
    ((whole, _),) = in_order(again)
    assert equal(part, whole)
    ((moved, _),) = in_order(source.to("cpu").subset(rows))
    assert equal(part, moved)


def test_the_step_alone_decides_the_views(source):
    def batches(first):
        return ViewLoader(source, noisy, batch_size=4, seed=3).batches(first, 6)

    whole = list(batches(0))
    for a, b in zip(whole[4:], batches(4), strict=True):
        assert a.step == b.step and equal(a.views, b.views) and equal(a.labels, b.labels)
    first, second = whole[0].views
    if any(leaf.is_floating_point() for leaf in nest.leaves(first)):
        assert not equal(first, second) and not equal(whole[0].views, whole[3].views)


def test_ranks_share_out_what_one_process_sees(source):
    def batches(**ranks):
        return ViewLoader(source, noisy, batch_size=6, seed=3, **ranks).batches(0, 3)

    ranks = [batches(rank=rank, world_size=2) for rank in range(2)]
    for whole, *parts in zip(batches(), *ranks, strict=True):
        assert torch.equal(whole.labels, torch.cat([part.labels for part in parts]))
        for i, view in enumerate(whole.views):
            pieces = [part.views[i] for part in parts]
            if isinstance(view, GraphBatch):
                assert torch.equal(view.rows, torch.cat([piece.rows for piece in pieces]))
                assert all(torch.equal(view.nodes, piece.nodes) for piece in pieces)
            else:
                assert equal(view, nest.joined(pieces))


def test_the_fingerprint_is_of_the_content(source):
    def digest(of):
        return fingerprint(Data(pretrain=of, views=noisy))["pretrain"]

    everything = torch.arange(COUNT)
    assert digest(source) == digest(source.subset(everything))
    assert digest(source) != digest(source.subset(everything.flip(0)))
    if isinstance(source, Samples):
        plain = Samples(source.values)  # the labels count as well
        last = list(nest.leaves(source.values))[-1]
        assert digest(source) != digest(plain)
        before = digest(plain)
        last[0] = ~last[0] if last.dtype == torch.bool else last[0] + 1
        assert digest(plain) != before


def test_data_of_one_source_hold_out_a_fifth_of_every_class():
    data = Data.of(Samples(drawn(5), labels=labels()), views=noisy)
    assert data.pretrain is data.train and len(data.train) == 9
    assert torch.bincount(data.test.labels).tolist() == [1, 1, 1]
    unlabelled = Data.of(drawn(5), views=noisy)
    assert unlabelled.test is None and len(unlabelled.pretrain) == COUNT


def test_anything_that_holds_samples_becomes_a_source():
    for samples in (drawn(3), drawn(3).numpy(), (drawn(3), drawn(2)), TensorDataset(drawn(3))):
        assert len(Data(pretrain=samples, views=noisy).pretrain) == COUNT
    with pytest.raises(DataError, match="samples must be a tensor, .*; got int"):
        Data(pretrain=3, views=noisy)


def test_what_cannot_be_used_is_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(())

    for make, kind, sentence in (
        (lambda: Samples(drawn(3), labels=[0, 1]), DataError, "labels must be 12 whole numbers"),
        (lambda: Samples(drawn(3), labels=-labels()), DataError, "counted from 0"),
        (lambda: Samples((drawn(3), drawn(2)[:4])), DataError, "as many rows as the others"),
        (lambda: Samples([drawn(3), "no"]), DataError, "tuples and dicts of them; got str"),
        (lambda: Samples(drawn(3), labels=labels(), classes=("a",)), DataError, "3 classes, and 1"),
        (lambda: TorchSource(Endless()), DataError, "use offdiag.fit"),
        (
            lambda: Graph(nodes=drawn(4), edges=torch.tensor([[0], [COUNT]])),
            DataError,
            "an edge leads to node 12, and there are 12",
        ),
        (lambda: Data(pretrain=drawn(3), test=drawn(3), views=noisy), DataError, "have no labels"),
        (
            lambda: Data(pretrain=drawn(3), test=Samples(drawn(3), labels=labels()), views=noisy),
            DataError,
            "give both, or neither",
        ),
    ):
        with pytest.raises(kind, match=sentence):
            make()


def test_views_must_be_a_tuple():
    loader = ViewLoader(Samples(drawn(3)), lambda batch, _: batch, batch_size=4, seed=0)
    with pytest.raises(ConfigError, match="must be a tuple, one entry a view; got Tensor"):
        next(loader.batches())


def test_arrays_of_numpy_are_not_copied():
    values = np.zeros((COUNT, 2), np.float32)
    source = Samples(values)
    values[0, 0] = 5
    assert source.values[0, 0] == 5
