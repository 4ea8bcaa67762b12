"""The reference values are what the program makes."""

import json

import numpy as np
import reference_cases


def assert_same(one, other, where):
    """The last of 15 digits may differ: libraries round in their own ways."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            assert_same(value, other[name], f"{where}, {name}")
    elif isinstance(one, list) and one and isinstance(one[0], dict):
        assert len(one) == len(other), where
        for a, b in zip(one, other, strict=True):
            assert_same(a, b, a["name"])
    elif isinstance(one, str):
        assert one == other, where
    else:
        np.testing.assert_allclose(
            np.array(one, float),
            np.array(other, float),
            rtol=1e-12,
            atol=1e-12,
            err_msg=where,
        )


def test_the_file_is_what_the_program_makes(tmp_path, monkeypatch):
    kept = reference_cases.PATH
    monkeypatch.setattr(reference_cases, "PATH", tmp_path / "cases.json")
    reference_cases.main()
    made = reference_cases.PATH.read_text("utf-8")
    assert_same(json.loads(kept.read_text("utf-8")), json.loads(made), "the file")
    assert len(made) < 150 * 1024
    assert "NaN" not in made
