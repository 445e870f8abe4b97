"""The common exam of all methods, by their rows in the registry; tags say which laws apply."""

import pytest
import torch

from offdiag.encoders import Encoder, small_conv
from offdiag.methods.method import AbstractMethod, Embedded
from offdiag.projectors import projector
from offdiag.registry import HEADS, METHODS, NORMALISERS
from offdiag.runs.build import build_method, method_of
from offdiag.runs.config import RunConfig
from offdiag.targets.ema import cosine_momentum

PREDICTIVE = [name for name, entry in METHODS.items() if "head" in entry.parts]


def make(name, head="auto", normaliser="auto", **settings):
    torch.manual_seed(0)
    encoder = small_conv(channels=1, width=4)
    config = RunConfig(
        method=name,
        head=head,
        normaliser=normaliser,
        projector=(16, 8),
        settings={"method": settings},
    )
    return method_of(config, encoder, projector((encoder.dim, 16, 8)))


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
        output = method(*views)
        output.loss.backward()
        optimizer.step()
        method.after_step(output.embedded.detached(), step=step, steps=steps)
        losses.append(output.loss.item())
    return losses


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_reduces_its_loss(name, views):
    losses = trained(make(name), views)
    assert losses[-1] < losses[0] - 2e-3 * abs(losses[0])


@pytest.mark.parametrize("normaliser", sorted(NORMALISERS))
@pytest.mark.parametrize("name", ["simsiam", "byol"])
def test_predictive_methods_reduce_their_loss_with_every_normaliser(name, normaliser, views):
    losses = trained(make(name, normaliser=normaliser), views)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("name", PREDICTIVE)
def test_every_predictive_method_takes_every_head(name, head, views):
    method = make(name, head=head)
    output = method(*views)
    assert output.loss.isfinite()
    assert [p.shape for p in output.embedded.prediction] == [(32, 8)] * 2
    output.loss.backward()
    assert all(p.grad is not None for p in method.encoder.parameters())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_gives_the_embeddings_of_each_view(name, views):
    method = make(name)
    embedded = method(*views).embedded
    assert isinstance(embedded, Embedded)
    assert [h.shape for h in embedded.features] == [(32, 16)] * 2
    assert [z.shape for z in embedded.projection] == [(32, 8)] * 2
    assert (embedded.prediction is None) == (method.head is None)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_terms_are_finite_numbers_without_a_gradient(name, views):
    terms = make(name)(*views).terms
    assert all(term.isfinite() and not term.requires_grad for term in terms.values())


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
    torch.testing.assert_close(make(name)(*views).loss, make(name)(*reversed(views)).loss)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_order_of_the_samples_does_not_matter(name, views, generator):
    order = torch.randperm(32, generator=generator)
    shuffled = tuple(view[order] for view in views)
    torch.testing.assert_close(
        make(name)(*views).loss, make(name)(*shuffled).loss, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_learns_in_bfloat16(name, views):
    method = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(*views).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.encoder.parameters())


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("rows", [2, 6])
def test_fewer_samples_than_coordinates_give_a_finite_loss(name, rows, views):
    loss = make(name)(*(view[:rows] for view in views)).loss
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_constant_views_give_a_finite_loss_and_gradient(name):
    method = make(name)
    constant = torch.ones(8, 1, 8, 8)
    loss = method(constant, constant).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_gradient_reaches_a_target_network(name, views):
    method = make(name)
    method(*views).loss.backward()
    for part, parameter in method.named_parameters():
        if part.startswith("target_"):
            assert not parameter.requires_grad and parameter.grad is None


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_settings_of_a_run_build_the_method(name):
    method = build_method(RunConfig(method=name, projector=(8, 4)), image_channels=1)
    assert isinstance(method, AbstractMethod)
    assert method.describe()["method"]


def test_no_gradient_reaches_simsiams_target(views):
    """The stop-gradient form equals the gradient with the targets held as constants."""
    method = make("simsiam", head="linear")
    method(*views).loss.backward()
    stopped = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    with torch.no_grad():
        constant = [z.clone() for z in method(*views).embedded.projection]
    output = method(*views)
    p_a, p_b = (method.normalise(p) for p in output.embedded.prediction)
    z_a, z_b = (method.normalise(z) for z in constant)
    by_hand = 0.25 * ((p_a - z_b).square().sum(1) + (p_b - z_a).square().sum(1)).mean()
    by_hand.backward()
    for expected, parameter in zip(stopped, method.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_byols_target_asks_for_no_gradient_and_follows_the_online_network(views):
    method = make("byol", momentum=0.9)
    embedded = method(*views).embedded
    before = [p.clone() for p in method.target_encoder.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1)
    method.after_step(embedded, step=-1, steps=10)  # progress 0: the momentum is its base
    for old, target, online in zip(
        before, method.target_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        assert not target.requires_grad
        torch.testing.assert_close(target, 0.9 * old + 0.1 * online.detach())


def test_byols_target_keeps_its_own_batchnorm_statistics(views):
    method = make("byol")
    embedded = method(*views).embedded
    kept = {n: b.clone() for n, b in method.target_encoder.named_buffers()}
    assert kept
    with torch.no_grad():
        for _, b in method.encoder.named_buffers():
            b.add_(5)
    method.after_step(embedded, step=0, steps=2)
    assert all(torch.equal(b, kept[n]) for n, b in method.target_encoder.named_buffers())


def test_momentum_rises_from_its_base_to_one_along_a_cosine():
    assert cosine_momentum(0.99, 0.0) == pytest.approx(0.99)
    assert cosine_momentum(0.99, 0.5) == pytest.approx(0.995)
    assert cosine_momentum(0.99, 1.0) == pytest.approx(1.0)


def test_byol_with_no_momentum_has_the_online_network_as_target(views):
    method = make("byol", momentum=0.0)
    trained(method, views, steps=1)  # progress 1: the cosine ends at 1, so step by hand
    method.after_step(method(*views).embedded, step=-1, steps=1)
    for target, online in zip(
        method.target_encoder.parameters(), method.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(target, online)


def test_three_views_are_the_mean_over_all_pairs(views):
    method = make("simsiam")
    third = views[0].flip(3)
    losses = {
        pair: make("simsiam")(*pair_views).loss
        for pair, pair_views in {
            "ab": views,
            "ac": (views[0], third),
            "bc": (views[1], third),
        }.items()
    }
    torch.testing.assert_close(method(*views, third).loss, sum(losses.values()) / 3)


def counting_method(name, norm):
    """A method whose encoder counts its calls."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), norm, torch.nn.Flatten())
    encoder = Encoder(net, dim=4 * 36)
    config = RunConfig(method=name, projector=(8,))
    method = method_of(config, encoder, projector((144, 8)))
    calls = []
    method.encoder.register_forward_hook(lambda *_: calls.append(1))
    return method, calls


@pytest.mark.parametrize("name", sorted(METHODS))
def test_an_encoder_that_mixes_no_images_takes_all_views_at_once(name, views):
    method, calls = counting_method(name, torch.nn.GroupNorm(2, 4))
    both = method(*views).embedded
    assert len(calls) == 1
    one_by_one = [method.embed(view) for view in views]
    for part, pair in enumerate((both.features, both.projection)):
        for view, embedded in enumerate(pair):
            torch.testing.assert_close(embedded, one_by_one[view][part])


class OwnNorm(torch.nn.Module):
    """A normalisation over the batch that is none of torch's, and says so."""

    mixes_images = True

    def forward(self, images):
        return images - images.mean(0)


@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d(4), OwnNorm()])
@pytest.mark.parametrize("name", ["simsiam", "byol", "vicreg"])
def test_what_mixes_images_sees_one_view_at_a_time(name, norm, views):
    method, calls = counting_method(name, norm)
    method(*views)
    assert len(calls) == 2
