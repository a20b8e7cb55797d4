"""Sums, means, softmaxes and places within groups of rows; the rows may come in any order."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def numbered(group: Tensor) -> tuple[Tensor, int]:
    """Each row's group, renumbered 0, 1, ... in ascending order, and the number of groups; [N] -> [N], M."""
    groups, index = group.unique(return_inverse=True)
    return index, len(groups)


def group_sums(x: Tensor, group: Tensor) -> Tensor:
    """The sum over each group's rows, groups ascending; [N], [N] -> [M]."""
    index, count = numbered(group)
    return x.new_zeros(count).index_add(0, index, x)


def group_means(x: Tensor, group: Tensor) -> Tensor:
    """The mean over each group's rows, groups ascending; [N], [N] -> [M]."""
    return group_sums(x, group) / group_sums(torch.ones_like(x), group)


def group_log_softmax(x: Tensor, group: Tensor) -> Tensor:
    """Log-softmax over the rows of each group, in row order; finite for any finite x; [N], [N] -> [N]."""
    index, count = numbered(group)
    top = x.new_full((count,), -math.inf).scatter_reduce(0, index, x.detach(), "amax")
    shifted = x - top[index]  # a shift per group changes neither value nor gradient
    return shifted - group_sums(shifted.exp(), group).log()[index]


def place_in_group(group: Tensor) -> Tensor:
    """Number of earlier rows with the same group; [N] -> [N]."""
    index, count = numbered(group)
    order = index.argsort(stable=True)
    sizes = index.bincount(minlength=count)
    place = torch.empty_like(index)
    place[order] = torch.arange(len(index), device=index.device) - (sizes.cumsum(0) - sizes)[index[order]]
    return place
