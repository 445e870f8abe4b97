"""What is remembered of the head, and what is read of a network."""

from dataclasses import replace

import torch

from offdiag.data.image_views import image_data
from offdiag.data.readers import digits
from offdiag.data.view_recipes import VIEWS
from offdiag.runs.build import build_method
from offdiag.runs.config import RunConfig
from offdiag.runs.observe import HeadSnapshots, Observer
from offdiag.training.fit import LoopMetrics


def test_the_peak_is_the_largest_off_diagonal_norm_so_far():
    head = HeadSnapshots.of(torch.eye(2))
    lent = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    head.take(lent, epoch=1)
    head.take(torch.eye(2) * 3, epoch=2)
    result = head.result()
    assert result.peak_epoch == 1 and result.end_epoch == 2
    assert torch.equal(torch.from_numpy(result.peak), lent)
    assert torch.equal(torch.from_numpy(result.end), 3 * torch.eye(2))
    assert torch.equal(torch.from_numpy(result.start), torch.eye(2))


def test_reading_twice_gives_the_same_and_leaves_the_network_as_it_was():
    splits = digits()
    config = RunConfig(projector=(16, 8), head="linear")  # the identity has no asymmetry: nan
    method = build_method(config, image_channels=1).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    observer = Observer(image_data(splits, recipe=VIEWS["digits"]))
    metrics = LoopMetrics(
        terms={},
        step=1,
        epoch=1.0,
        seconds=1.0,
        loss=0.5,
        learning_rate=0.1,
        head_learning_rate=0.2,
        steps_per_second=2.0,
        waiting_share=0.25,
    )
    row = observer.read(method, metrics, images_per_step=10)
    again = observer.read(method, metrics, images_per_step=10)
    assert row == replace(again, peak_memory_gib=row.peak_memory_gib)  # the peak may rise
    assert 0.01 < row.peak_memory_gib <= again.peak_memory_gib
    assert row.waiting_share == 0.25
    assert row.images_per_second == 20
    assert row.projection.rows == len(observer.probe) and row.projection.uniformity < 0
    assert 0 < row.head.off_diagonal_share < 1 and row.head.eigenspace_alignment > 0
    assert method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
