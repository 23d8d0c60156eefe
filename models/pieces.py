"""Pieces of histories, stacked into batches for training on sequences.

The one idea: a piece carries the steps before it that its first windows need, so cutting changes no window; only
its own usable steps count in the loss. Steps before a history's beginning are NaN, as in a window.

Legend: B pieces, T steps, R receptive field, C channels, K1 hazard bins.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.features import Sequence
from models.hazard import exposure
from models.labels import END, UNNAMED, soft_events
from models.modes import NO_MODES, Modes


@dataclass(frozen=True)
class Piece:
    """Steps ``start`` to ``stop`` of a sequence; ``alone``: as if nothing had been before them."""

    sequence: Sequence
    start: int
    stop: int
    alone: bool = False


@dataclass(frozen=True)
class Batch:
    """values [B, R - 1 + T, C]; exposed and failed [B, T, K1]; target [B, T] of E[min(T, cap)], NaN where the
    censoring hides it; usable [B, T]; mode [B, T] the number of the mode to learn, or -1."""

    values: Tensor
    exposed: Tensor
    failed: Tensor
    target: Tensor
    usable: Tensor
    mode: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.values.to(device), self.exposed.to(device), self.failed.to(device), self.target.to(device),
            self.usable.to(device), self.mode.to(device),
        )  # fmt: skip


def cut(
    sequences: Ordered[Sequence], size: int, *, rng: np.random.Generator | None = None, random_start: float = 0.0
) -> list[Piece]:
    """Every usable step in exactly one piece of at most ``size`` steps.

    With ``rng`` the cuts fall at random, the pieces are shuffled, and a share ``random_start`` is alone.
    """
    pieces = []
    for sequence in sequences:
        usable = np.flatnonzero(sequence.usable)
        if len(usable) == 0:
            continue
        first, last = int(usable[0]), int(usable[-1]) + 1
        offset = 0 if rng is None else int(rng.integers(size))
        for start in range(first - offset, last, size):
            begin, end = max(start, first), min(start + size, last)
            if sequence.usable[begin:end].any():
                pieces.append(Piece(sequence, begin, end, rng is not None and rng.random() < random_start))
    if rng is not None:
        return [pieces[i] for i in rng.permutation(len(pieces))]
    return pieces


def batched(pieces: list[Piece], size: int, *, rng: np.random.Generator | None = None) -> list[list[Piece]]:
    """Batches of pieces of like length, so that little is computed on padding; with ``rng`` in random order."""
    room = len(pieces) if rng is None else size * 8
    ordered = [
        piece
        for start in range(0, len(pieces), max(room, 1))
        for piece in sorted(pieces[start : start + room], key=lambda piece: piece.stop - piece.start)
    ]
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def shuffled_groups(
    sequences: Ordered[Sequence], most_bytes: int, *, rng: np.random.Generator
) -> list[list[int]]:
    """Sequences in groups of at most about ``most_bytes``, drawn at random; one group in order where all fit.

    Pieces are mixed within a group alone, so an epoch reads a history that is larger than memory once, group by
    group, and never jumps through all of it.
    """
    sizes = [sequence.values.nbytes for sequence in sequences]
    if sum(sizes) <= most_bytes:
        return [list(range(len(sequences)))]
    groups: list[list[int]] = [[]]
    held = 0
    for index in rng.permutation(len(sequences)).tolist():
        if groups[-1] and held + sizes[index] > most_bytes:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += sizes[index]
    return groups


def stack(
    pieces: Ordered[Piece], context: int, edges: Ordered[float], cap: float, *, modes: Modes = NO_MODES,
    mode_within: float = 0.0, finding_within: float = 0.0,
) -> Batch:  # fmt: skip
    """Pieces as one batch, padded on the right with NaN; ``context`` steps precede each piece.

    A mode is learned from steps at most ``mode_within`` before its failure; steps at most ``finding_within`` before
    a confirmed finding are ``models.labels.soft_events``.
    """
    length = max(piece.stop - piece.start for piece in pieces)
    num_channels = pieces[0].sequence.values.shape[1]
    values = np.full((len(pieces), context + length, num_channels), np.nan, np.float32)
    time = np.zeros((len(pieces), length), np.float32)
    event = np.zeros((len(pieces), length), np.bool_)
    usable = np.zeros((len(pieces), length), np.bool_)
    mode = np.full((len(pieces), length), UNNAMED, np.int64)
    ended_by = np.full((len(pieces), length), END, np.int8)
    for row, piece in enumerate(pieces):
        sequence, own = piece.sequence, piece.stop - piece.start
        begin = piece.start if piece.alone else max(0, piece.start - context)
        values[row, context - (piece.start - begin) : context + own] = sequence.values[begin : piece.stop]
        usable[row, :own] = sequence.usable[piece.start : piece.stop]
        time[row, :own] = np.where(usable[row, :own], sequence.time[piece.start : piece.stop], 0)
        event[row, :own] = sequence.event[piece.start : piece.stop] & usable[row, :own]
        mode[row, :own] = modes.classes(sequence.mode[piece.start : piece.stop])
        ended_by[row, :own] = sequence.ended_by[piece.start : piece.stop]
    died, weight = soft_events(time.ravel(), event.ravel(), ended_by.ravel(), within=finding_within)
    exposed, failed = (x * weight[:, None] for x in exposure(edges, time.ravel(), died))
    target = np.where(event | (time >= cap), np.minimum(time, cap), np.nan)
    shape = (*time.shape, len(edges) + 1)
    return Batch(
        torch.from_numpy(values),
        torch.from_numpy(exposed.reshape(shape).astype(np.float32)),
        torch.from_numpy(failed.reshape(shape).astype(np.float32)),
        torch.from_numpy(target.astype(np.float32)),
        torch.from_numpy(usable),
        torch.from_numpy(np.where(event & (time <= mode_within), mode, UNNAMED)),
    )
