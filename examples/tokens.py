"""A small JEPA (Assran et al. 2023) on tokens: predict the features of masked tokens.

The digits of scikit-learn as 16 tokens of 2x2 pixels. A transformer sees the tokens that are not
masked; a predictor gets its output with a mask token and a position at each masked place, and
predicts what the target encoder, an exponential moving average, makes of the whole picture there.
No augmentation, no label.

Seed 0, 2 virtual cores shared with other work, torch 2.15.0, 2026-11-27, 72 epochs of 11 steps,
676 s of wall time on the busy machine: kNN of the features .465 after epoch 1 and .526 at the end
(chance .1), effective rank 17.1 of 64. It learns little in so few steps.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import offdiag
from offdiag.methods.method import AbstractMethod, Embedded, Output
from offdiag.targets.ema import cosine_momentum, frozen_copy, move_towards

TOKENS, DIM, MASKED = 16, 64, 8


def digits() -> offdiag.Samples:
    found = load_digits()
    pictures = torch.from_numpy(found.images).float() / 8 - 1
    tokens = pictures.unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, TOKENS, 4)
    return offdiag.Samples(tokens, labels=found.target, name="digits as tokens")


def views(batch, generator):
    """The tokens, and which of them are masked: 8 of 16, others for each sample."""
    order = torch.rand(batch.shape[:2], generator=generator).argsort(dim=1)
    return batch, order < MASKED


def transformer(layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        DIM, 4, 2 * DIM, dropout=0, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Tokens(nn.Module):
    """Tokens to features of tokens; called as an encoder, to their mean."""

    dim = DIM

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.net = nn.Linear(4, DIM), transformer(2)
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS, DIM))

    def each(self, tokens: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
        """The features of every token; masked ones are seen by none."""
        return self.net(self.embed(tokens) + self.place, src_key_padding_mask=masked)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.each(tokens).mean(1)


class JEPA(AbstractMethod):
    """L = mean smooth-l1 between predicted and target features of the masked tokens."""

    def __init__(self, encoder: Tokens) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, nn.Identity()
        self.target_encoder = frozen_copy(encoder)
        self.mask = nn.Parameter(torch.zeros(DIM))
        self.place = nn.Parameter(0.02 * torch.randn(TOKENS, DIM))
        self.predictor = nn.Sequential(transformer(1), nn.Linear(DIM, DIM))

    def forward(self, tokens: torch.Tensor, masked: torch.Tensor) -> Output:
        h = self.encoder.each(tokens, masked)
        predicted = self.predictor(torch.where(masked[..., None], self.mask, h) + self.place)
        with torch.no_grad():
            target = self.target_encoder.each(tokens)
            target = nn.functional.layer_norm(target, (DIM,))
        loss = nn.functional.smooth_l1_loss(predicted[masked], target[masked])
        seen = (h * ~masked[..., None]).sum(1) / (TOKENS - MASKED)
        return Output(loss, {}, Embedded(features=(seen,), projection=(seen,)))

    def after_step(self, embedded: Embedded, *, step: int, steps: int) -> None:
        momentum = cosine_momentum(0.99, (step + 1) / steps)
        move_towards(self.target_encoder, self.encoder, momentum=momentum)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tokens"))
    given = parser.parse_args()
    data = offdiag.Data.of(digits(), views=views)
    for seed in given.seeds:
        torch.manual_seed(seed)
        method = JEPA(Tokens())
        config = offdiag.RunConfig(
            epochs=max(1, given.steps // 11), batch_size=128, optimizer="adamw", lr=1e-3, seed=seed
        )
        record = offdiag.train(config, given.out / f"seed{seed}", data=data, method=method)
        first, last = record.history[0], record.history[-1]
        print(
            f"seed {seed}: rank {last.features.effective_rank:.1f} of {DIM}, kNN "
            f"{first.knn['features']:.3f} -> {last.knn['features']:.3f}, linear probe "
            f"{record.evaluation['linear']['features']:.3f}"
        )


if __name__ == "__main__":
    main()
