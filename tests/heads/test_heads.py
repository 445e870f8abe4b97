"""One common exam for all heads, and the laws of the identity-initialised family."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offdiag._checks import ConfigError
from offdiag.heads import HEADS, MASKS, IdentityInitHead, MLPHead, head_matrix
from offdiag.training.optimizers import OPTIMIZERS

DIM = 6
TRAINABLE = [name for name, entry in HEADS.items() if "trains-nothing" not in entry.tags]
MATRIX = [name for name, entry in HEADS.items() if "matrix" in entry.tags]


@pytest.fixture
def batch(generator):
    return torch.randn(16, DIM, generator=generator)


def make(name):
    torch.manual_seed(0)
    return HEADS[name](DIM)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_keeps_the_shape(name, batch):
    assert make(name)(batch).shape == batch.shape


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_survives_save_and_load(name, batch):
    head, other = make(name), make(name)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.eval()(batch), head.eval()(batch))


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_trainable_head_gets_a_gradient_and_passes_one_on(name, batch):
    head = make(name)
    batch.requires_grad_()
    head(batch).square().sum().backward()
    assert batch.grad is not None and batch.grad.abs().sum() > 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_head_none_returns_its_input_and_trains_nothing(batch):
    head = HEADS["none"](DIM)
    assert head(batch) is batch
    assert not any(p.requires_grad for p in head.parameters())


@pytest.mark.parametrize("entries", sorted(MASKS))
def test_identity_init_heads_start_as_the_identity(entries, batch):
    torch.testing.assert_close(IdentityInitHead(DIM, entries=entries)(batch), batch)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("entries", ["off-diagonal", "lower", "upper", "symmetric"])
def test_no_optimiser_and_no_decay_touches_the_diagonal(entries, optimizer, batch):
    head = IdentityInitHead(DIM, entries=entries)
    stepper = OPTIMIZERS[optimizer](head.parameters(), lr=0.1, weight_decay=0.5)
    with torch.no_grad():
        head.offset.add_(0.1)  # off zero, so that decay and LARS have something to act on
    for _ in range(5):
        stepper.zero_grad()
        (head(batch) - 2 * batch.flip(1)).square().sum().backward()
        stepper.step()
    weight = head_matrix(head)
    assert torch.equal(weight.diagonal(), torch.ones(DIM))
    assert not torch.allclose(weight, torch.eye(DIM))
    frozen = ~MASKS[entries](DIM) & ~torch.eye(DIM, dtype=torch.bool)
    assert torch.equal(weight[frozen], torch.zeros(int(frozen.sum())))


@given(values=st.lists(st.floats(-5, 5), min_size=9, max_size=9))
def test_symmetric_head_is_symmetric_whatever_its_parameter(values):
    head = IdentityInitHead(3, entries="symmetric")
    with torch.no_grad():
        head.offset.copy_(torch.tensor(values).view(3, 3))
    weight = head_matrix(head)
    assert torch.equal(weight, weight.T)


@pytest.mark.parametrize("name", MATRIX)
def test_head_matrix_is_the_map_that_the_head_applies(name, batch):
    head = make(name)
    torch.testing.assert_close(head(batch), batch @ head_matrix(head).T)


def test_heads_that_are_not_one_matrix_say_so():
    assert head_matrix(HEADS["mlp"](DIM)) is None
    assert head_matrix(HEADS["bias"](DIM)) is None


def test_mlp_head_takes_a_bottleneck(batch):
    assert MLPHead(DIM, hidden=2)(batch).shape == batch.shape


def test_an_unknown_set_of_entries_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown .* 'diag'.*off-diagonal"):
        IdentityInitHead(DIM, entries="diag")
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        IdentityInitHead(0)
