"""Parameter groups, and LARS against its formula."""

import pytest
import torch

from offdiag._checks import ConfigError
from offdiag.runs.build import build_method
from offdiag.runs.config import RunConfig
from offdiag.training.optimizers import LARS, OPTIMIZERS, make_optimizer, parameter_groups


def small(**settings):
    return build_method(RunConfig(**settings), image_channels=1)


def test_groups_hold_each_trainable_parameter_once_and_decay_only_matrices():
    method = small(head="mlp", method="byol")
    groups = parameter_groups(method, lr=0.1, weight_decay=0.01, head_lr_ratio=3)
    listed = [p for group in groups for p in group["params"]]
    assert {id(p) for p in listed} == {id(p) for p in method.parameters() if p.requires_grad}
    assert len(listed) == len({id(p) for p in listed})
    for group in groups:
        assert group["lr"] == pytest.approx(0.3 if group["name"].startswith("head") else 0.1)
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)


def test_a_frozen_head_adds_no_group():
    names = {
        g["name"]
        for g in parameter_groups(small(head="none"), lr=1, weight_decay=0, head_lr_ratio=1)
    }
    assert names == {"weights", "biases"}


def test_lars_takes_a_step_of_the_trust_ratios_length():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    weight.grad = torch.tensor([[0.0, 2.0]])
    LARS([weight], lr=0.5, weight_decay=0.0, trust=0.1).step()
    # |w| = 5, |g| = 2: scaled gradient 0.1 * 5 / 2 * g = (0, .5), times lr
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 3.75]]))


def test_lars_moves_a_tensor_that_starts_at_zero_and_one_it_may_not_adapt():
    zero = torch.nn.Parameter(torch.zeros(2, 2))
    plain = torch.nn.Parameter(torch.ones(2, 2))
    zero.grad, plain.grad = torch.ones(2, 2), torch.ones(2, 2)
    LARS([{"params": [zero]}, {"params": [plain], "adapt": False}], lr=0.1).step()
    torch.testing.assert_close(zero.detach(), torch.full((2, 2), -0.1))
    torch.testing.assert_close(plain.detach(), torch.full((2, 2), 0.9))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimiser_lowers_a_quadratic(name):
    method = small()
    optimizer = make_optimizer(name, method, lr=1e-2)
    first = sum(p.square().sum() for p in method.parameters()).item()
    for _ in range(10):
        optimizer.zero_grad()
        sum(p.square().sum() for p in method.parameters()).backward()
        optimizer.step()
    assert sum(p.square().sum() for p in method.parameters()).item() < first


def test_nonsense_is_refused():
    with pytest.raises(ConfigError, match="unknown optimiser 'adm': choose one of"):
        make_optimizer("adm", small(), lr=0.1)
    with pytest.raises(ConfigError, match="learning rate must be at least 0; got -1"):
        make_optimizer("adam", small(), lr=-1)


def slow_lars(weight, slopes, *, lr, decay, trust=1e-3, momentum=0.9):
    """You et al. 2017, one tensor at a time."""
    velocity = torch.zeros_like(weight)
    for slope in slopes:
        update = slope + decay * weight
        velocity = momentum * velocity + update * trust * weight.norm() / update.norm()
        weight = weight - lr * velocity
    return weight


def test_lars_on_many_tensors_is_lars_on_each(generator):
    start = [torch.randn(shape, generator=generator) for shape in ((4, 3), (5,), (2, 3, 2))]
    slopes = [[torch.randn(w.shape, generator=generator) for w in start] for _ in range(4)]
    weights = [torch.nn.Parameter(w.clone()) for w in start]
    optimizer = LARS(weights, lr=0.5, weight_decay=0.1)
    for step in slopes:
        for weight, slope in zip(weights, step, strict=True):
            weight.grad = slope.clone()
        optimizer.step()
    for i, weight in enumerate(weights):
        expected = slow_lars(start[i], [step[i] for step in slopes], lr=0.5, decay=0.1)
        torch.testing.assert_close(weight.detach(), expected)
