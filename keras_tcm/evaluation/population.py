"""How many samples, and pairs, each class has."""

import numpy as np

from keras_tcm.evaluation.samples import Samples


class Population:
    """Sizes of the classes of queries and gallery.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` if the queries are paired with each other.
        includes_queries: Whether each query is itself in the gallery.

    Attributes:
        query_counts: Queries of each class, shape `(classes,)`.
        eligible: Classes with a query, a positive and a negative pair, increasing.
        slots: Index of each class among the eligible, or their number.
        num_positives: (query, gallery) pairs inside each eligible class, counted from
            each end that is a query.
        num_negatives: The same for pairs with the other end outside.
        num_negative_pairs: All negative pairs, each counted once.
        num_excluded: Classes with a query that are not eligible.
    """

    def __init__(
        self, queries: Samples, gallery: Samples | None, includes_queries: bool
    ) -> None:
        self.query_counts = np.diff(queries.starts)
        is_paired_with_itself = gallery is None
        gallery = queries if gallery is None else gallery
        gallery_counts = np.diff(gallery.starts)
        has_self = is_paired_with_itself or includes_queries
        per_query = gallery_counts - (1 if has_self else 0)
        others = gallery.size - gallery_counts
        self.eligible = np.flatnonzero(
            (self.query_counts > 0) & (per_query > 0) & (others > 0)
        )
        self.slots = np.full(len(self.query_counts), len(self.eligible), np.int32)
        self.slots[self.eligible] = np.arange(len(self.eligible))
        self.num_positives = (self.query_counts * per_query)[self.eligible]
        self.num_negatives = (self.query_counts * others)[self.eligible]
        both_ends = int((self.query_counts * others).sum())
        self.num_negative_pairs = both_ends // (2 if is_paired_with_itself else 1)
        num_classes = int((self.query_counts > 0).sum())
        self.num_excluded = num_classes - len(self.eligible)
