"""Shared by the tests of the figures."""

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(params=["default", "dark_background"])
def style(request):
    """Light and dark backgrounds."""
    with plt.style.context(request.param):
        yield request.param
