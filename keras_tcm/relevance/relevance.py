"""The base class of what makes a pair positive."""

from typing import Any, Self


class Relevance:
    """Base class: tells which pairs of samples are positive, from their labels.

    All other pairs are negative. Give an instance as `relevance` to a pairwise loss, a
    metric or `evaluate_embeddings`.

    Subclasses implement `__call__` and `check_labels`, and `get_config` if they have
    arguments.

    Attributes:
        is_symmetric: Whether a pair is positive from both of its ends if it is from
            one.
        has_class_labels: Whether labels are classes, or levels of them: numbers that
            are equal or not.
    """

    is_symmetric = True
    has_class_labels = False

    def check_labels(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Raise unless labels have a shape that this can compare.

        Args:
            name: Name of the argument.
            shape: Its shape; `None` where the batch size is not known.
        """
        raise NotImplementedError

    def __call__(self, anchor_labels: Any, partner_labels: Any) -> Any:
        """Compare the labels of some samples with those of others.

        Args:
            anchor_labels: Tensor of shape `(a, ...)`.
            partner_labels: Tensor of shape `(n, ...)`.

        Returns:
            Boolean tensor of shape `(a, n)`.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(type(self))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the object from its configuration."""
        return cls(**config)
