"""Counts of negative pairs: in one, or apart for groups of queries."""

import functools
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from keras_tcm.evaluation.tile_kernels import NegativeCounts


class Counts(Protocol):
    """What a walk over pairs counts, all at once or in parts.

    `NegativeCounts` describes the methods.
    """

    def of_rows(self, start: int) -> NegativeCounts:
        """The counts to which the tile with this first row adds."""

    def part(self, rows: range, columns: range) -> "Callable[[], Counts]":
        """Return what makes counts in the same bins for a part of the pairs."""

    def results(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What has been counted: histogram and table of each group."""

    def add(
        self,
        rows: range,
        columns: range,
        results: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Add the `results` of what `part` made for the same pairs."""


class GroupedCounts:
    """Counts kept apart for groups of consecutive queries.

    Args:
        make: Makes the counts of a group, which must not count by query.
        num_groups: Number of groups.
        group_size: Queries in each. A tile lies inside a group.

    Attributes:
        groups: The counts of each group.
    """

    def __init__(
        self, make: Callable[[], NegativeCounts], num_groups: int, group_size: int
    ) -> None:
        first = make()
        self.groups = [first, *(first.empty_copy() for _ in range(num_groups - 1))]
        self._group_size = group_size

    def of_rows(self, start: int) -> NegativeCounts:
        """The counts to which the tile with this first row adds."""
        return self.groups[start // self._group_size]

    def part(self, rows: range, columns: range) -> "Callable[[], GroupedCounts]":
        """Return what makes counts in the same bins for some whole groups."""
        make = self.groups[0].part(rows, columns)
        num_groups = math.ceil(len(rows) / self._group_size)
        return functools.partial(GroupedCounts, make, num_groups, self._group_size)

    def results(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What has been counted: histogram and table of each group."""
        return [result for group in self.groups for result in group.results()]

    def add(
        self,
        rows: range,
        columns: range,
        results: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Add the `results` of what `part` made for the same pairs."""
        first = rows.start // self._group_size
        for number, result in enumerate(results, start=first):
            self.groups[number].add(rows, columns, [result])
