"""Choose TCM's margins and weight for the demo, on training classes only.

Holds out the phonetic letters among the training classes of the glyphs (whole blocks of
characters, as in the test), trains on the others with each setting and evaluates on the
held-out classes. The test classes are not touched.

    python benchmarks/choose_margins.py --loss smooth_ap --seeds 0 1
"""

import argparse
import json
import time

import numpy as np

from keras_tcm import TCM, datasets, evaluate_embeddings
from keras_tcm.datasets import glyphs
from keras_tcm.study.grid import BASE_LOSSES
from keras_tcm.study.training import embed, train_embedding_model

# IPA Extensions to Phonetic Extensions Supplement.
PHONETIC = (0x0250, 0x1DBF)
DEFAULT_SETTINGS = [
    "none",
    *(
        f"{margins},{weight}"
        for margins in ("0.7,0.3", "0.8,0.4", "0.9,0.5")
        for weight in (0.2, 0.5, 1.0)
    ),
]


def parse_setting(text: str) -> tuple[float, float, float] | None:
    """Read `positive_margin,negative_margin,weight`, or `none` for no TCM."""
    if text == "none":
        return None
    positive_margin, negative_margin, weight = map(float, text.split(","))
    return positive_margin, negative_margin, weight


def main() -> None:
    """Print one JSON line per training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", choices=BASE_LOSSES, default="smooth_ap")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--settings",
        nargs="+",
        default=DEFAULT_SETTINGS,
        metavar="POSITIVE,NEGATIVE,WEIGHT",
        help="margins and weight of TCM, or none",
    )
    args = parser.parse_args()

    (x, y), _ = datasets.load("glyphs")
    characters = glyphs.class_names()
    is_phonetic = np.array([PHONETIC[0] <= ord(c) <= PHONETIC[1] for c in characters])
    is_held_out = is_phonetic[y]
    for setting in map(parse_setting, args.settings):
        for seed in args.seeds:
            loss = BASE_LOSSES[args.loss]()
            if setting is not None:
                loss = loss + setting[2] * TCM(*setting[:2])
            start = time.perf_counter()
            model, _ = train_embedding_model(
                x[~is_held_out], y[~is_held_out], loss, args.steps, seed
            )
            result = evaluate_embeddings(
                embed(model, x[is_held_out]), y[is_held_out], verbose=False
            )
            row = {
                "loss": args.loss,
                "margins_and_weight": setting,
                "seed": seed,
                "recall_at_1": round(result.recall[1], 4),
                "map_at_r": round(result.map_at_r, 4),
                "opis": round(result.opis, 6),
                "epsilon_opis": round(result.epsilon_opis, 5),
                "calibration_range": [round(d, 3) for d in result.calibration_range],
                "seconds": round(time.perf_counter() - start, 1),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
