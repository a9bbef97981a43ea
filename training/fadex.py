"""Trains FaDeX as the paper does: momentum contrast with a label-aware InfoNCE loss (Face2Scene, equation 1)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ..models.embedded.fadex import FaDeX


def label_aware_info_nce(
    query: torch.Tensor,
    keys: torch.Tensor,
    query_labels: torch.Tensor,
    key_labels: torch.Tensor,
    temperature: float = 0.07,
) -> torch.Tensor:
    """Mean over queries i of -1/|P(i)| sum over p in P(i) of log( exp(s_ip) / sum over a of exp(s_ia) ).

    query: ``[Q, C]``, keys: ``[K, C]``, normalized here, so that scaling them changes nothing; s = cosine / temperature.
    P(i) are the keys under the same degradation; every key counts in the denominator, so a key of the same degradation is
    never a negative. A query without a positive contributes nothing.
    """
    scores = F.normalize(query, dim=1) @ F.normalize(keys, dim=1).T / temperature
    log_prob = scores - scores.logsumexp(1, keepdim=True)
    positive = query_labels[:, None] == key_labels[None]
    count = positive.sum(1)
    per_query = -(log_prob * positive).sum(1) / count.clamp(min=1)
    return per_query[count > 0].sum() / (count > 0).sum().clamp(min=1)


def degradation_loss(
    query: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor, key_labels: torch.Tensor, temperature: float = 0.07
) -> torch.Tensor:
    """Equation 1 as it is printed: the sum over i in B and p in P(i) of -log( exp(s_ip) / sum over a of exp(s_ia) ).

    query: ``[B, C]``; keys: ``[K, C]``, of which the first B are those of the batch itself: the i-th is no example for the i-th query,
    on neither side. s = cosine / temperature; P(i) are the keys of the same degradation, a runs over all.
    """
    scores = F.normalize(query, dim=1) @ F.normalize(keys, dim=1).T / temperature
    itself = torch.eye(len(query), len(keys), dtype=torch.bool, device=query.device)
    scores = scores.masked_fill(itself, -torch.inf)
    log_prob = scores - scores.logsumexp(1, keepdim=True)
    positive = (labels[:, None] == key_labels[None]) & ~itself
    return -log_prob[positive].sum()


class MomentumContrast(nn.Module):
    """Query encoder, its momentum copy, and a first-in first-out queue of keys with their degradation labels.

    Temperature .07 as in DASR and MoCo. Their queue and momentum (5120, .999) are for trainings a hundred times as long: here the
    keys follow ten times faster and the queue holds what they were a few dozen steps ago.
    """

    def __init__(self, encoder: FaDeX, width: int, size: int = 1024, momentum: float = 0.99, temperature: float = 0.07):
        super().__init__()
        self.query, self.key = encoder, copy.deepcopy(encoder).requires_grad_(False)
        self.momentum, self.temperature = momentum, temperature
        self.register_buffer("queue", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("queue_labels", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, features: torch.Tensor, key_pairs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of the query encoder's ``features`` against key pairs ``[B, 6, H, W]``, row by row under the degradations
        ``labels`` ``[B]``; updates key encoder and queue."""
        query = self.query.project(features)
        with torch.no_grad():
            self.follow()
            key = F.normalize(self.key.project(self.key(key_pairs)).float(), dim=1)
        filled = self.queue_labels >= 0
        keys = torch.cat([key, self.queue[filled]])
        key_labels = torch.cat([labels, self.queue_labels[filled]])
        loss = label_aware_info_nce(query.float(), keys, labels, key_labels, self.temperature)
        self.enqueue(key, labels)
        return loss

    @torch.no_grad()
    def follow(self) -> None:
        """key <- momentum * key + (1 - momentum) * query. Batch statistics are the key encoder's own, as in DASR."""
        for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
            key.lerp_(query, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: torch.Tensor, labels: torch.Tensor) -> None:
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.queue_labels[places] = labels
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))


class PublishedContrast(MomentumContrast):
    """Equation 1 on one batch: every pair is a query, and a key of all the others, beside those of the queue.

    The defaults are MoCo's and DASR's where the paper is silent: temperature .07, momentum .999, 8192 keys.
    """

    def __init__(
        self, encoder: FaDeX, width: int, size: int = 8192, momentum: float = 0.999, temperature: float = 0.07
    ):
        super().__init__(encoder, width, size, momentum, temperature)

    def forward(self, features: torch.Tensor, pairs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of the query encoder's ``features`` of the pairs ``[B, 6, H, W]``, under the degradations ``labels`` ``[B]``; updates
        key encoder and queue."""
        query = self.query.project(features).float()
        with torch.no_grad():
            self.follow()
            key = F.normalize(self.key.project(self.key(pairs)).float(), dim=1)
        filled = self.queue_labels >= 0
        keys = torch.cat([key, self.queue[filled]])
        loss = degradation_loss(query, keys, labels, torch.cat([labels, self.queue_labels[filled]]), self.temperature)
        self.enqueue(key, labels)
        return loss
