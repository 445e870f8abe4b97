"""The common exam of all methods. A new method is one row in METHODS."""

import pytest
import torch

from offdiag.encoders import Encoder, projector, small_conv
from offdiag.heads import HEADS
from offdiag.losses import NORMALISERS
from offdiag.methods.byol import BYOL
from offdiag.methods.ema import cosine_momentum
from offdiag.methods.simsiam import SimSiam

METHODS = {"simsiam": SimSiam, "byol": BYOL}


def make(name, head="off-diagonal", normaliser="bn", **settings):
    torch.manual_seed(0)
    encoder = small_conv(channels=1, width=4)
    return METHODS[name](
        encoder,
        projector((encoder.dim, 16, 8)),
        head=HEADS[head](8),
        normalise=NORMALISERS[normaliser],
        **settings,
    )


@pytest.fixture
def views(generator):
    clean = torch.randn(32, 1, 8, 8, generator=generator)
    noise = torch.randn(2, 32, 1, 8, 8, generator=generator)
    return clean + 0.3 * noise[0], clean + 0.3 * noise[1]


def trained(method, views, steps=30):
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = method(*views).loss
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / steps)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("normaliser", sorted(NORMALISERS))
@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_reduces_its_loss(name, normaliser, views):
    losses = trained(make(name, normaliser=normaliser), views)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_takes_every_head(name, head, views):
    method = make(name, head=head)
    output = method(*views)
    assert output.loss.isfinite()
    assert [p.shape for p in output.prediction] == [(32, 8)] * 2
    output.loss.backward()
    assert all(p.grad is not None for p in method.encoder.parameters())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_survives_save_and_load(name, views):
    method, other = make(name), make(name)
    trained(method, views, steps=3)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other(*views).loss, method(*views).loss)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_is_reproducible(name, views):
    assert trained(make(name), views, steps=3) == trained(make(name), views, steps=3)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_methods_loss_is_symmetric_in_the_views(name, views):
    method = make(name, head="linear")
    torch.testing.assert_close(method(*views).loss, method(*reversed(views)).loss)


def test_no_gradient_reaches_simsiams_target(views):
    """The stop-gradient form equals the gradient with the targets held as constants."""
    method = make("simsiam", head="linear")
    method(*views).loss.backward()
    stopped = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    with torch.no_grad():
        constant = [z.clone() for z in method(*views).projection]
    output = method(*views)
    p_a, p_b = (method.normalise(p) for p in output.prediction)
    z_a, z_b = (method.normalise(z) for z in constant)
    by_hand = 0.25 * ((p_a - z_b).square().sum(1) + (p_b - z_a).square().sum(1)).mean()
    by_hand.backward()
    for expected, parameter in zip(stopped, method.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_byols_target_asks_for_no_gradient_and_follows_the_online_network(views):
    method = make("byol", momentum=0.9)
    before = [p.clone() for p in method.target_encoder.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1)
    method.after_step(0.0)
    for old, target, online in zip(
        before, method.target_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        assert not target.requires_grad
        torch.testing.assert_close(target, 0.9 * old + 0.1 * online.detach())


def test_byols_target_keeps_its_own_batchnorm_statistics(views):
    method = make("byol")
    method(*views)
    kept = {n: b.clone() for n, b in method.target_encoder.named_buffers()}
    assert kept
    with torch.no_grad():
        for _, b in method.encoder.named_buffers():
            b.add_(5)
    method.after_step(0.5)
    assert all(torch.equal(b, kept[n]) for n, b in method.target_encoder.named_buffers())


def test_momentum_rises_from_its_base_to_one_along_a_cosine():
    assert cosine_momentum(0.99, 0.0) == pytest.approx(0.99)
    assert cosine_momentum(0.99, 0.5) == pytest.approx(0.995)
    assert cosine_momentum(0.99, 1.0) == pytest.approx(1.0)


def test_byol_with_no_momentum_has_the_online_network_as_target(views):
    method = make("byol", momentum=0.0)
    trained(method, views, steps=1)  # progress 1: the cosine ends at 1, so step by hand
    method.after_step(0.0)
    for target, online in zip(
        method.target_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(target, online)


def counting_method(name, norm):
    """A method whose encoder tells how often it was called."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), norm, torch.nn.Flatten())
    encoder = Encoder(net, dim=4 * 36)
    method = METHODS[name](
        encoder, projector((144, 8)), head=HEADS["off-diagonal"](8), normalise=NORMALISERS["l2"]
    )
    calls = []
    method.encoder.register_forward_hook(lambda *_: calls.append(1))
    return method, calls


@pytest.mark.parametrize("name", sorted(METHODS))
def test_an_encoder_that_mixes_no_images_takes_both_views_at_once(name, views):
    method, calls = counting_method(name, torch.nn.GroupNorm(2, 4))
    both = method(*views)
    assert len(calls) == 1
    one_by_one = [method.embed(view) for view in views]
    for part, pair in enumerate((both.features, both.projection, both.prediction)):
        for view, embedded in enumerate(pair):
            torch.testing.assert_close(embedded, one_by_one[view][part])


class OwnNorm(torch.nn.Module):
    """A normalisation over the batch that is none of torch's, and says so."""

    mixes_images = True

    def forward(self, images):
        return images - images.mean(0)


@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d(4), OwnNorm()])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_mixes_images_sees_one_view_at_a_time(name, norm, views):
    method, calls = counting_method(name, norm)
    method(*views)
    assert len(calls) == 2
