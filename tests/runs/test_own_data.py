"""Data of any kind go through the whole pipeline: readings, evaluation, resume, page, grid."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import offdiag
from offdiag._checks import ConfigError, DataError, RunError
from offdiag.cli.main import main
from offdiag.data import nest
from offdiag.data.data import Data
from offdiag.data.dataset import Dataset, splits_of
from offdiag.data.from_file import data_of_file
from offdiag.data.image_views import image_data
from offdiag.data.samples import Graph, Samples, TorchSource
from offdiag.data.view_recipes import ViewRecipe
from offdiag.encoders import Encoder, small_conv
from offdiag.results.comparison import Status
from offdiag.results.history import RunRecord
from offdiag.runs.config import RunConfig
from offdiag.runs.frozen import FrozenRun
from offdiag.runs.processes import launch
from offdiag.runs.train import Watcher, resume, train
from offdiag.training.checkpoint import load_checkpoint

COUNT, CLASSES, DIM = 60, 3, 8
SHORT = RunConfig(
    data="own", epochs=2, batch_size=16, projector=(16, 4), checkpoint_seconds=0, device="cpu"
)


class Stop(Exception):
    """A run is cut off at this point."""


def stop_at(step):
    def stepped(now):
        if now == step:
            raise Stop

    return Watcher(stepped=stepped)


def labels():
    return torch.arange(COUNT) % CLASSES


def drawn(*shape):
    """Samples whose mean is that of their class."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(COUNT, *shape, generator=generator)
    return values + 3 * labels().view(-1, *[1] * len(shape))


def noisy(batch, generator):
    def noise(leaf):
        if not leaf.is_floating_point():
            return leaf
        return leaf + 0.3 * torch.randn(leaf.shape, generator=generator)

    return tuple(nest.mapped(noise, batch) for _ in range(2))


def wide(inputs):
    """A small encoder of anything that is flattened to `inputs` numbers."""
    return lambda: Encoder(nn.Sequential(nn.Flatten(), nn.Linear(inputs, DIM), nn.ReLU()), dim=DIM)


class Neighbours(nn.Module):
    """Each node's mean over itself and those that point to it, through one layer."""

    dim = DIM
    mixes_images = True

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, DIM)

    def forward(self, graph):
        start, end = graph.edges
        h = self.layer(graph.nodes)
        total = h.index_add(0, end, h[start])
        degree = torch.ones(len(h)).index_add(0, end, torch.ones(len(end)))
        return torch.relu(total / degree[:, None])[graph.rows]


def ring():
    edges = torch.stack((torch.arange(COUNT), (torch.arange(COUNT) + CLASSES) % COUNT))
    return Graph(nodes=drawn(4), edges=edges, labels=labels(), classes=("a", "b", "c"))


def of_images(dtype, channels):
    top = 255 if dtype == torch.uint8 else 65535
    values = (drawn(channels, 8, 8).clamp(0, 9) / 9 * top).to(dtype)
    pictures = Dataset(images=values, labels=labels(), classes=("a", "b", "c"), name="pictures")
    recipe = ViewRecipe(crop_scale=(0.5, 1))
    return image_data(splits_of(pictures), recipe=(recipe, recipe))


DATA = {
    "signals": lambda: Data.of(
        Samples(drawn(2, 6), labels=labels()), views=noisy, encoder=wide(12)
    ),
    "tokens": lambda: Data.of(Samples(drawn(4, 3), labels=labels()), views=noisy, encoder=wide(12)),
    "transitions": lambda: Data.of(
        Samples((drawn(5), labels(), drawn(5)), labels=labels(), name="walk"),
        views=lambda batch, generator: (batch[0], batch[2]),
        whole=lambda batch: batch[0],
        encoder=wide(5),
    ),
    "torch": lambda: Data.of(
        TorchSource(TensorDataset(drawn(5), labels()), labelled=True), views=noisy, encoder=wide(5)
    ),
    "graph": lambda: Data.of(ring(), views=noisy, encoder=Neighbours),
    "5 channels": lambda: of_images(torch.uint8, 5),
    "16 bits": lambda: of_images(torch.uint16, 1),
}


def weights(directory):
    return load_checkpoint(directory)["method"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", DATA)
def test_data_of_any_kind_go_through_the_whole_pipeline(name, tmp_path):
    data, out = DATA[name](), tmp_path / "run"
    with pytest.raises(Stop):
        train(SHORT, out, data=data, watcher=stop_at(3))
    with pytest.raises(RunError, match="trained on data of your own: .* data="):
        resume(out)
    record = resume(out, data=DATA[name]())
    whole = train(SHORT, tmp_path / "whole", data=DATA[name]())
    assert same(weights(out), weights(tmp_path / "whole"))
    assert record.history[-1].projection == whole.history[-1].projection
    assert record.history[-1].knn is not None
    assert record.evaluation["linear"]["features"] > 1 / CLASSES
    assert record.config["data"] == "own"

    frozen = FrozenRun(out, data=data, device="cpu")
    assert frozen.evaluate()["linear"] == record.evaluation["linear"]
    assert frozen.embed(data, tmp_path / "x.npz") == COUNT
    with np.load(tmp_path / "x.npz") as arrays:
        assert len(arrays["features"]) == len(arrays["labels"]) == COUNT

    offdiag.write_report([record], tmp_path / "report.html")
    assert "offdiag train" not in (tmp_path / "report.html").read_text()


def test_other_samples_are_refused(tmp_path):
    out = tmp_path / "run"
    train(replace(SHORT, epochs=1), out, data=DATA["signals"]())
    other = Data.of(Samples(1 + drawn(2, 6), labels=labels()), views=noisy, encoder=wide(12))
    with pytest.raises(RunError, match="samples are not those that"):
        resume(out, data=other)
    with pytest.raises(RunError, match="samples are not those that"):
        FrozenRun(out, data=other, device="cpu").evaluate()


def test_an_encoder_of_ones_own_takes_the_place_of_the_named_one(tmp_path):
    def encoder():
        return small_conv(1, width=4)

    short = replace(SHORT, data="digits", epochs=1, batch_size=512)
    record = train(short, tmp_path / "a", encoder=encoder)
    assert record.config["encoder"] == "own" and record.history[-1].features.dim == 16
    train(short, tmp_path / "b", encoder=encoder)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    train(replace(short, seed=1), tmp_path / "c", encoder=encoder)
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    with pytest.raises(RunError, match="with an encoder of your own"):
        FrozenRun(tmp_path / "a", device="cpu")
    assert FrozenRun(tmp_path / "a", encoder=encoder, device="cpu").evaluate()["linear"]


def test_what_does_not_fit_is_said_in_a_sentence(tmp_path):
    bare = Data.of(drawn(2, 6), views=noisy)
    with pytest.raises(ConfigError, match="'small' is for images .* shape .2, 6.: give an encoder"):
        train(SHORT, tmp_path / "a", data=bare)
    with pytest.raises(ConfigError, match="as .dim: wrap it"):
        train(SHORT, tmp_path / "b", data=bare, encoder=nn.Flatten())
    with pytest.raises(ConfigError, match="give data=... again"):
        train(SHORT, tmp_path / "c")


FILE = """
import torch
from torch import nn
import offdiag

def noisy(batch, generator):
    return tuple(batch + 0.3 * torch.randn(batch.shape, generator=generator) for _ in range(2))

def make():
    labels = torch.arange(60) % 3
    noise = torch.randn(60, 2, 6, generator=torch.Generator().manual_seed(0))
    values = labels[:, None, None] + noise
    return offdiag.Data.of(
        offdiag.Samples(values, labels=labels, name="signals"),
        views=noisy,
        encoder=lambda: offdiag.Encoder(nn.Sequential(nn.Flatten(), nn.Linear(12, 8)), dim=8),
    )

def wrong():
    return 3

def broken():
    return torch.zeros(2)[5]
"""
QUICK = ["--epochs", "2", "--batch-size", "16", "--projector", "16", "4", "--device", "cpu"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_data_from_a_file_are_trained_on_resumed_evaluated_and_embedded(file, tmp_path, capsys):
    spec, out = f"{file}:make", tmp_path / "run"
    main(["train", "--out", str(out), "--data", spec, *QUICK])
    assert RunRecord.load(out).config["data"] == spec
    assert f"--data {spec}" in (out / "report.html").read_text()
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(out)])
    assert "was trained on data of your own" in capsys.readouterr().err
    main(["train", "--resume", str(out), "--data", spec])
    with pytest.raises(SystemExit):
        main(["evaluate", str(out)])
    assert f"({spec}): give them again with --data FILE.py:FUNCTION" in capsys.readouterr().err
    main(["evaluate", str(out), "--data", spec])
    main(["embed", str(out), "--out", str(tmp_path / "x.npz"), "--data", spec])
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["features"].shape == (60, 8)


def test_a_grid_over_data_from_a_file(file, tmp_path):
    grid = offdiag.Grid(
        base=replace(SHORT, data=f"{file}:make"), heads=("none", "off-diagonal"), seeds=(0,)
    )
    table = offdiag.compare(grid, tmp_path / "grid", jobs=1)
    assert [cell.status for cell in table.cells] == [Status.FINISHED] * 2


@pytest.mark.parametrize(
    "spec, kind, sentence",
    [
        ("none.py:make", ConfigError, "there is no file none.py: give --data FILE.py:FUNCTION"),
        ("{file}", ConfigError, "given as FILE.py:FUNCTION; got"),
        ("{file}:other", ConfigError, "has no function 'other'; its functions: .*make"),
        ("{file}:wrong", ConfigError, "wrong in .* must return an offdiag.Data; got int"),
        ("{file}:broken", DataError, r"mine.py, line 23 failed \(IndexError: index 5"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(file, spec, kind, sentence):
    with pytest.raises(kind, match=sentence):
        data_of_file(spec.format(file=file))


def test_a_file_that_is_no_python_is_said_in_a_sentence(tmp_path):
    path = tmp_path / "odd.py"
    path.write_text("x = 1\ndef make(:\n")
    with pytest.raises(DataError, match="odd.py, line 2 failed .SyntaxError: "):
        data_of_file(f"{path}:make")


def run_from_file(spec, out):
    torch.set_num_threads(1)
    train(replace(SHORT, data=spec, optimizer="sgd"), out)  # Adam would magnify rounding


def test_two_processes_see_what_one_sees(file, tmp_path):
    spec = f"{file}:make"
    run_from_file(spec, tmp_path / "one")
    launch(run_from_file, spec, tmp_path / "two", processes=2, start_method="fork")
    one, two = (weights(tmp_path / name) for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-4, rtol=1e-3)


def test_the_old_name_of_the_fingerprint_goes_on_working():
    code = "import offdiag.runs.identity as old; print(old.fingerprint.__module__)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "offdiag.runs.fingerprint"
