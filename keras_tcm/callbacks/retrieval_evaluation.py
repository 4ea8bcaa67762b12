"""Exact evaluation at the end of an epoch."""

import inspect
import math
import os
import warnings
from typing import Any

import keras

from keras_tcm.callbacks.fixed_margins import FixedMargins
from keras_tcm.callbacks.same_rows import check_same_rows
from keras_tcm.callbacks.tensorboard_figures import TensorBoardFigures
from keras_tcm.evaluation import Evaluation, UndefinedError, evaluate_embeddings
from keras_tcm.models import CrossBatchMemory, towers
from keras_tcm.validation import (
    check_choice,
    check_integer,
    check_number,
    check_several,
)


class RetrievalEvaluation(keras.callbacks.Callback):
    """Embeds a data set at the end of an epoch and logs `evaluate_embeddings`.

    Writes `opis`, `epsilon_opis`, `recall_at_1` (and the other k), `map_at_r`, `eer`,
    and the `threshold` at one target of the FAR with the `frr` there, each after
    `prefix`, into the logs of the epoch, where History, EarlyStopping, ModelCheckpoint
    and TensorBoard find them; list this callback before those. After each epoch a line
    tells R@1, OPIS and the threshold. Unlike the metrics, it has no memory limit.

    Where the embeddings do not determine a result (NaN, collapsed), it logs NaN and
    warns, and training goes on. It also warns, once, of a `TCM` in the loss whose fixed
    margins are so far from where the model decides that nearly all positive pairs are
    hard.

    Args:
        x: Samples to embed: arrays, `data.ImageBatches`, or another data set that
            `model.predict` accepts and that gives the same rows in the order of `y` at
            every pass. Of a data set, the first batch is taken a few times to see that.
            Of a model with two towers, its two inputs, or the queries alone if there is
            a `gallery`.
        y: One label per sample, shape `(n,)`, of any hashable kind; with `relevance`
            among the options, what that compares.
        every: Evaluate at the end of every so many epochs, and of the first one. The
            others log NaN, which is no improvement to the callbacks that wait for one:
            their `patience` counts epochs. Defaults to 1.
        batch_size: Batch size of `model.predict`. Defaults to 32.
        prefix: Put before the names in the logs, so that they are no others' names.
            Defaults to `"val_"`.
        output: Name of the embedding among the outputs of a model with several.
            Defaults to `"embedding"`.
        far_target: FAR of the `threshold` in the logs, in (0, 1]; NaN where the
            negative pairs do not resolve it. Defaults to 0.01.
        log_dir: Folder of TensorBoard's logs, to which figures of each evaluation are
            written: utility curves and error rates. Needs TensorFlow and TensorBoard,
            as `keras.callbacks.TensorBoard` does, and matplotlib. Defaults to `None`:
            no figures.
        verbose: Whether to print the line. Defaults to `"auto"`: if `fit` prints
            progress.
        gallery: Samples to search among and their labels, `(x, y)`, of the same kinds.
            A model with two towers (`keras_tcm.layers.StackTowers`) embeds them by its
            second one, and `x` by its first. Defaults to `None`: the samples are
            compared with each other, or the queries with the items of `x`.
        **options: Keyword arguments of `evaluate_embeddings`, such as `far_range`,
            `recall_at` or `relevance`; or `gallery_embeddings`, which do not change.

    Attributes:
        evaluation: The last `Evaluation`, or `None`.

    Raises:
        ValueError: If `every` or `batch_size` is below 1, `far_target` out of range,
            `x` shuffles, or there is a `score_normalization`: a cohort is of one model,
            and this one changes. During `fit`, if the logs have one of the names
            already.
        ImportError: If `log_dir` is given and what it needs is not installed.
        TypeError: If `options` has a name that `evaluate_embeddings` does not know, or
            `x` is a generator.
        KeyError: During `fit`, if the model has no output of that name.

    With two towers, `RetrievalEvaluation(texts, y_texts, gallery=(images, y_images))`
    embeds texts and images by their towers.

    Example:

    ```python
    callbacks = [
        keras_tcm.callbacks.RetrievalEvaluation(x_val, y_val),
        keras.callbacks.EarlyStopping("val_opis", mode="min", patience=3),
    ]
    model.fit(sampler, epochs=20, callbacks=callbacks)
    ```
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        every: int = 1,
        batch_size: int = 32,
        prefix: str = "val_",
        output: str = "embedding",
        far_target: float = 0.01,
        log_dir: str | os.PathLike[str] | None = None,
        verbose: bool | str = "auto",
        gallery: tuple[Any, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.x = x
        self.y = y
        self.every = check_integer("every", every, 1)
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.prefix = prefix
        self.output = output
        self.far_target = check_number("far_target", far_target, 0, 1, open_low=True)
        check_choice("verbose", verbose, (True, False, "auto"))
        self.verbose = verbose
        # A misspelt option must not wait for the end of the first epoch.
        signature = inspect.signature(evaluate_embeddings)
        signature.bind(x, y, **options)
        if options.get("score_normalization") is not None:
            raise ValueError(
                "`score_normalization` must be None: a cohort is embedded by one "
                "model, and this one is still trained. Received: "
                f"score_normalization={options['score_normalization']!r}"
            )
        targets = options.get(
            "far_targets", signature.parameters["far_targets"].default
        )
        targets = check_several("far_targets", targets, "numbers")
        if self.far_target not in targets:
            targets = (*targets, self.far_target)
        self.gallery = gallery
        if gallery is not None:
            _check_gallery(gallery, options)
        self.options = {"verbose": False, **options, "far_targets": targets}
        if y is None:
            raise TypeError("`y` must be one label per row of `x`. Received: y=None")
        check_same_rows(x, y if options.get("relevance") is None else None)
        self.evaluation: Evaluation | None = None
        # Of queries and gallery, once there is a model: new ones would compile anew.
        self._models: tuple[keras.Model, keras.Model] | None = None
        self._fixed_margins = FixedMargins(options.get("distance", "cosine"))
        self._figures = None if log_dir is None else TensorBoardFigures(log_dir)
        self._line: str | None = None
        self._is_first = True

    def set_model(self, model: keras.Model) -> None:
        """Take the model that is to be evaluated."""
        super().set_model(model)
        self._models = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Have the first epoch evaluated: a NaN there would stay the best value."""
        self._is_first = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the line of the epoch before, below the progress bar."""
        self._print_line()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Print the line of the last epoch, and finish the files of the figures."""
        self._print_line()
        if self._figures:
            self._figures.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate and write into `logs`."""
        logs = {} if logs is None else logs
        nothing = self._values(None)
        self._check_names(logs, nothing)
        # Every epoch has the names: without, CSVLogger drops the columns, and
        # ModelCheckpoint overwrites the best model.
        logs.update(nothing)
        if (epoch + 1) % self.every and not self._is_first:
            return
        self._is_first = False
        embeddings, of_gallery = self._embed()
        loss = getattr(self.model, "loss", None)
        at_thresholds = self._fixed_margins.thresholds(loss)
        at_thresholds += tuple(self.options.get("at_thresholds", ()))
        options = {**self.options, **of_gallery, "at_thresholds": at_thresholds}
        try:
            self.evaluation = evaluate_embeddings(embeddings, self.y, **options)
        except UndefinedError as error:
            self.evaluation = None
            warnings.warn(f"Epoch {epoch + 1} has no evaluation: {error}", stacklevel=2)
        except (TypeError, ValueError) as error:
            error.add_note(
                "In `RetrievalEvaluation`, `labels` are its `y`, and `embeddings` what "
                "the model makes of its `x`."
            )
            raise
        if self.evaluation:
            self._fixed_margins.look_at(self.evaluation, loss)
        values = self._values(self.evaluation)
        logs.update(values)
        self._line = self._describe(epoch, values)
        if self._figures and self.evaluation:
            threshold = values[self.prefix + "threshold"]
            self._figures.write(self.evaluation, epoch, threshold)

    def _embed(self) -> tuple[Any, dict[str, Any]]:
        """Embeddings of the samples, and what those of a gallery add to the options."""
        # On JAX, asking for the model brings its state into the variables.
        model = self.model
        if self.gallery is None:
            return self._predict(model, self.x), {}
        if self._models is None:
            self._models = towers(model) if _has_towers(model) else (model, model)
        x, y = self.gallery
        return self._predict(self._models[0], self.x), {
            "gallery_embeddings": self._predict(self._models[1], x),
            "gallery_labels": y,
        }

    def _predict(self, model: keras.Model, x: Any) -> Any:
        batched = not isinstance(x, keras.utils.PyDataset)
        embeddings = model.predict(
            x, batch_size=self.batch_size if batched else None, verbose=0
        )
        return embeddings[self.output] if isinstance(embeddings, dict) else embeddings

    def _check_names(self, logs: dict[str, Any], values: dict[str, float]) -> None:
        """Raise if somebody else has logged one of the names."""
        taken = sorted(logs.keys() & values.keys())
        if taken:
            raise ValueError(
                "`prefix` must keep the names of this callback apart from those of "
                "metrics and other callbacks, such as with prefix='retrieval_'. "
                f"Received: prefix={self.prefix!r}, where the logs of the epoch have "
                f"{', '.join(taken)} already"
            )

    def _values(self, result: Evaluation | None) -> dict[str, float]:
        recall_at = self.options.get("recall_at", (1, 2, 4, 8))
        point = result.operating_point(self.far_target) if result else None
        values = {
            "opis": result.opis if result else math.nan,
            "epsilon_opis": result.epsilon_opis if result else math.nan,
            "map_at_r": result.map_at_r if result else math.nan,
            "eer": result.eer if result else math.nan,
            "threshold": point.threshold if point else math.nan,
            "frr": point.frr if point else math.nan,
        }
        for k in recall_at:
            values[f"recall_at_{k}"] = result.recall[k] if result else math.nan
        return {self.prefix + name: value for name, value in values.items()}

    def _describe(self, epoch: int, values: dict[str, float]) -> str:
        k = min(self.options.get("recall_at", (1,)))
        recall, opis, threshold = (
            values[self.prefix + name]
            for name in (f"recall_at_{k}", "opis", "threshold")
        )
        return (
            f"Epoch {epoch + 1}: R@{k} {recall:.4f}, OPIS {opis:.6f}, "
            f"threshold {threshold:.4f} at FAR {self.far_target:g}"
        )

    def _print_line(self) -> None:
        is_wanted = self.verbose
        if is_wanted == "auto":
            is_wanted = bool((self.params or {}).get("verbose"))
        if self._line and is_wanted:
            print(self._line, flush=True)
        self._line = None


def _has_towers(model: keras.Model) -> bool:
    if isinstance(model, CrossBatchMemory):
        model = model.model
    return len(getattr(getattr(model, "output", None), "shape", ())) == 3


def _check_gallery(gallery: Any, options: dict[str, Any]) -> None:
    """Raise unless a gallery is samples and their labels, and the only one."""
    if not isinstance(gallery, tuple | list) or len(gallery) != 2:
        raise ValueError(
            "`gallery` must be samples and their labels, (x, y). "
            f"Received: gallery of type {type(gallery).__name__}"
        )
    if options.get("gallery_embeddings") is not None:
        raise ValueError(
            "`gallery_embeddings` must be None with a `gallery`, which is embedded at "
            "every evaluation. Received: both"
        )
    x, y = gallery
    if y is None:
        raise TypeError(
            "`gallery` must have one label per row. Received: gallery=(x, None)"
        )
    check_same_rows(x, y if options.get("relevance") is None else None)
