"""Time the import of keras_tcm over that of keras, in fresh processes.

python benchmarks/bench_import.py --backend jax
"""

import subprocess
import sys
from collections.abc import Iterator

import harness
from harness import Measurement


def measure(is_quick: bool) -> Iterator[Measurement]:
    """Yield the seconds of both imports, and of keras_tcm once keras is there.

    The last is the difference of the others, without their noise.
    """
    candidates = {
        "import keras": _importer("keras"),
        "import keras_tcm": _importer("keras_tcm"),
        "import keras_tcm after keras": _importer("keras_tcm", after="keras"),
    }
    times = harness.time_in_turn(candidates, is_quick, seconds=30.0)
    for what, seconds in times.items():
        yield Measurement(what, seconds=seconds)


def _importer(module: str, after: str = "time") -> harness.Candidate:
    code = (
        f"import time, {after}; start = time.perf_counter(); import {module}; "
        "print(time.perf_counter() - start)"
    )

    def candidate(round_number: int) -> float:
        # Nothing but this is loaded, unlike in a worker.
        command = [sys.executable, "-c", code]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(output.stdout.split()[-1])

    return candidate


if __name__ == "__main__":
    harness.run(__doc__, "import", measure)
