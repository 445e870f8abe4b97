"""Nearest neighbours: known answers and a slow reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offdiag._checks import ConfigError
from offdiag.evaluation.knn import knn_accuracy


def clusters(generator, per_class=30, classes=4, spread=0.1):
    centres = 3 * torch.eye(classes)
    labels = torch.arange(classes).repeat(per_class)
    noise = torch.randn(len(labels), classes, generator=generator)
    return centres[labels] + spread * noise, labels


def slow_knn(bank, bank_labels, queries, labels, k, temperature):
    right = 0
    for query, label in zip(queries, labels, strict=True):
        similarity = torch.cosine_similarity(bank, query[None], dim=1)
        votes = {}
        for i in similarity.argsort(descending=True)[:k].tolist():
            weight = math.exp(similarity[i].item() / temperature)
            votes[int(bank_labels[i])] = votes.get(int(bank_labels[i]), 0) + weight
        right += max(votes, key=votes.get) == int(label)
    return right / len(queries)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), k=st.integers(1, 12))
def test_knn_agrees_with_a_slow_vote(seed, k):
    draw = torch.Generator().manual_seed(seed)
    bank, queries = torch.randn(25, 3, generator=draw), torch.randn(12, 3, generator=draw)
    labels = torch.randint(0, 3, (37,), generator=draw)
    arguments = (bank, labels[:25], queries, labels[25:])
    assert knn_accuracy(*arguments, neighbours=k) == slow_knn(*arguments, k, 0.07)


def test_separated_classes_are_told_apart_and_pure_noise_is_not(generator):
    z, labels = clusters(generator)
    test, test_labels = clusters(generator)
    assert knn_accuracy(z, labels, test, test_labels) == 1
    noise, noise_labels = clusters(generator, spread=100)
    test, test_labels = clusters(generator, spread=100)
    assert knn_accuracy(noise, noise_labels, test, test_labels) < 0.5


def test_knn_is_the_same_however_many_rows_go_at_once(generator):
    z, labels = clusters(generator, spread=2)
    assert knn_accuracy(z, labels, z + 0.5, labels, rows_at_once=7) == knn_accuracy(
        z, labels, z + 0.5, labels
    )


def test_knn_survives_a_tiny_temperature(generator):
    z, labels = clusters(generator)
    assert knn_accuracy(z, labels, z, labels, temperature=1e-6) == 1


def test_more_neighbours_than_features_is_refused(generator):
    z, labels = clusters(generator, per_class=2)
    with pytest.raises(ConfigError, match="got 20 and 8"):
        knn_accuracy(z, labels, z, labels)
