"""The head explains what it has learnt, and is folded without a change."""

import numpy as np
import pytest
import torch

from hear_axlstm.finetuning.head import Head, fit_head


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    centres = 5 * torch.randn(3, 20, generator=generator)
    return 100 + centres[labels] + torch.randn(60, 20, generator=generator), labels


def test_it_finds_classes_that_lie_apart_whatever_their_scale(points):
    embeddings, labels = points
    head = Head(20, 3)
    fit_head(head, embeddings[:45], labels[:45], embeddings[45:], labels[45:])
    assert (head(embeddings[45:]).argmax(1) == labels[45:]).all()


def test_a_channel_that_never_changes_is_no_division_by_zero(points):
    embeddings, labels = points
    embeddings[:, 0] = 1.0
    head = Head(20, 3)
    fit_head(head, embeddings, labels, embeddings, labels)
    assert all(torch.isfinite(tensor).all() for tensor in head.state_dict().values())


def test_the_folded_head_gives_the_same_probabilities(points):
    embeddings, labels = points
    head = Head(20, 3)
    fit_head(head, embeddings, labels, embeddings, labels)
    classifier = head.folded(["a", "b", "c"], {})
    expected = head(embeddings).softmax(1).detach().numpy()
    assert np.abs(classifier.probabilities(embeddings.numpy()) - expected).max() < 1e-4
