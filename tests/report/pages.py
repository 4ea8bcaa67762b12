"""Evaluations to make pages of, and what a page contains."""

import html.parser

import numpy as np

from keras_tcm import evaluate_embeddings

HOSTILE_NAMES = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<!-- <script> ",
    "\"double\" 'single' `back` &amp; &lt;",
    "separators \u2028 and \u2029",
    "new\nline\tand tab",
    "$title ${data} {0} %s \\u003c \\",
    "\u202eright to left",
    "lone \ud800 surrogate",
    "É Straße ＡＢＣ",
    ".*",
    "",
    "long " + "x" * 10_000,
]


def samples(num_classes=30, per_class=6, seed=0):
    """Clusters of very different spread."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), per_class)
    spread = rng.uniform(0.2, 1.0, num_classes)[y, None]
    x = rng.normal(size=(num_classes, 6))[y] + spread * rng.normal(size=(len(y), 6))
    return x.astype("float32"), y


X, Y = samples()
NAMES = [*HOSTILE_NAMES, *(f"class {i}" for i in range(30 - len(HOSTILE_NAMES)))]
LABELS = [NAMES[label] for label in Y]


def evaluate(**options):
    return evaluate_embeddings(X, LABELS, verbose=False, **options)


class _Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements = []
        self.open = []

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.elements.append(element)
        if tag not in ("meta", "link", "input", "img", "br"):
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self.open:
            texts.append(data)


def elements(page, tag):
    """(attributes, text) of the elements of a kind; the page must be well-formed."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return [
        (attributes, "".join(texts))
        for name, attributes, texts in reader.elements
        if name == tag
    ]
