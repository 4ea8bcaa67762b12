"""How long the trainings of the demo take, and whether that is too long."""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_tcm.study.report.document import paragraph, show
from keras_tcm.study.training import NUM_EPOCHS

# A number of steps that was chosen for lack of time is a multiple of this.
_STEPS_UNIT = 5 * NUM_EPOCHS
# The first steps compile and allocate. As many of the next ones tell the pace, or
# fewer, but at least five, where they take longer than so many seconds.
_UNTIMED_STEPS = 3
_TIMED_STEPS = 20
_TIMED_SECONDS = 20.0
# The time left follows the pace of so many last steps.
_RECENT_STEPS = 100


class TooSlowError(Exception):
    """The trainings would take too long with so many steps.

    Attributes:
        steps: How many each can do in time.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.steps = steps


class Pace(keras.callbacks.Callback):
    """Measures the steps of trainings that follow each other, and tells the time left.

    Args:
        models: How many trainings there will be, all of the same number of steps.
        limit: Seconds that all may take. If the first steps show that they would take
            longer, `TooSlowError` is raised.
    """

    def __init__(self, models: int, limit: float | None) -> None:
        super().__init__()
        self._models = models
        self._limit = limit

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget the steps of the training before."""
        self._steps = self.params["epochs"] * self.params["steps"]
        self._start = self._shown = time.monotonic()
        # When each step ended.
        self._times: list[float] = []
        self._is_measured = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Take the time of a step, and tell of the first ones what they say."""
        # The loss of the step is known by now, which is when its work is done.
        now = time.monotonic()
        self._times.append(now)
        timed = len(self._times) - _UNTIMED_STEPS
        if not self._is_measured and (
            timed >= _TIMED_STEPS
            or (timed >= 5 and now - self._times[_UNTIMED_STEPS - 1] > _TIMED_SECONDS)
        ):
            self._is_measured = True
            self._tell()
        if sys.stdout.isatty() and now - self._shown > 1:
            self._shown = now
            self._show(logs, end="\r")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tell how far the training is."""
        self._show(logs, end="\n")

    def on_train_end(self, logs: Any = None) -> None:
        """Tell that the model is being tested."""
        self._models -= 1
        print("  testing it ...", flush=True)

    def _tell(self) -> None:
        """Tell how long all will take, unless that is too long."""
        # One step that something held up says nothing about the others.
        pace = float(np.median(np.diff(self._times[_UNTIMED_STEPS - 1 :])))
        start = self._times[_UNTIMED_STEPS - 1] - self._start
        seconds = self._models * (start + pace * self._steps)
        text = f"A step takes {pace:.2g} s here"
        if sys.stdout.isatty():
            print(" " * 78, end="\r")  # Wipes out what `_show` wrote.
        limit, self._limit = self._limit, None
        if limit is None or seconds <= limit:
            show(paragraph(f"{text}: {_duration(seconds)} in all."))
            return
        rest = limit - (self._times[-1] - self._start)
        steps = int((rest / self._models - start) / pace)
        steps = max(steps // _STEPS_UNIT, 1) * _STEPS_UNIT
        show(
            paragraph(
                f"{text}: {self._steps:,} for each model would take "
                f"{_duration(seconds)}. Starting again with {steps:,} steps each. The "
                f"README's tables are of {self._steps:,}: --steps {self._steps} "
                "insists on them."
            )
        )
        raise TooSlowError(steps)

    def _show(self, logs: Mapping[str, float], end: str) -> None:
        done = len(self._times)
        line = f"  step {done:,} of {self._steps:,}, loss {logs['loss']:.4f}"
        if done > _UNTIMED_STEPS:
            recent = self._times[_UNTIMED_STEPS - 1 :][-_RECENT_STEPS - 1 :]
            pace = (recent[-1] - recent[0]) / (len(recent) - 1)
            start = self._times[_UNTIMED_STEPS - 1] - self._start
            rest = (self._steps - done) * pace
            rest += (self._models - 1) * (start + self._steps * pace)
            left = f"{math.ceil(rest / 60)} min" if rest > 60 else "less than a minute"
            line += f", {left} left in all"
        if sys.stdout.isatty():
            line = line.ljust(78)  # What stood there may have been longer.
        print(line, end=end, flush=True)


def _duration(seconds: float) -> str:
    """Say how long something takes whose duration was estimated."""
    low, high = math.floor(0.9 * seconds / 60), math.ceil(1.25 * seconds / 60)
    return f"{low} to {high} minutes" if low else f"less than {high + 1} minutes"
