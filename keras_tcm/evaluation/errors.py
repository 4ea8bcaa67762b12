"""Errors of the evaluation."""


class UndefinedError(ValueError):
    """The embeddings do not determine the requested figure.

    Raised for NaN or infinite embeddings, for too few classes or pairs, and for a
    calibration range of zero width (collapsed embeddings).
    """
