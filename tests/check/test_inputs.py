"""Expressions for arguments, as they are typed on a command line."""

import numpy as np
import pytest

from diptych.proof.inputs import FUNCTIONS, InputError, parse


def read(text):
    return parse(text, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("normal(3, 4)", (3, 4), "float64"),
        ("normal(3,4,dtype=float32)", (3, 4), "float32"),
        ("complex_normal(2)", (2,), "complex128"),
        ("[1.0, 2.0]", (2,), "float64"),
        ("[[1, 2], [3, 4]]", (2, 2), "int64"),
        ("[1.5, -inf, 2 * pi]", (3,), "float64"),
        ("integers(5, low=2, high=4)", (5,), "int64"),
        ("1 + uniform(2, low=-1, high=0) ** 2", (2,), "float64"),
        ("spd(3)", (3, 3), "float64"),
        ("normal()", (), "float64"),
        ("zeros(0, 3)", (0, 3), "float64"),
        ("linspace(0, 1, 5)", (5,), "float64"),
    ],
)
def test_expressions_for_arrays(text, shape, dtype):
    found = read(text)
    assert np.shape(found) == shape
    assert np.asarray(found).dtype == dtype


def test_expressions_mean_what_they_say():
    assert read("-2 ** 2") == -4
    assert read("'relu'") == "relu"
    assert read("None") is None
    np.testing.assert_array_equal(read("[1.0, -2]"), [1.0, -2.0])
    np.testing.assert_array_equal(read("2 * eye(2) - ones(2, 2)"), [[1, -1], [-1, 1]])
    assert np.all(np.linalg.eigvalsh(read("spd(6)")) > 0.99)
    assert set(read("integers(99, low=2, high=4)")) == {2, 3}
    tree = read("{'w': normal(2), 'b': (1.0, [ones(1), zeros(1)])}")
    assert tree["b"][0] == 1.0
    assert [x.shape for x in tree["b"][1]] == [(1,), (1,)]
    assert not np.array_equal(*(lambda rng: (parse("normal(3)", rng), parse("normal(3)", rng)))(
        np.random.default_rng(0)))  # fmt: skip


def test_files_of_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3.0))
    np.savez(tmp_path / "p.npz", w=np.ones(2))
    np.save(tmp_path / "o.npy", np.array([object()]), allow_pickle=True)
    np.testing.assert_array_equal(read(str(tmp_path / "x.npy")), [0, 1, 2])
    np.testing.assert_array_equal(read(f"2 * load('{tmp_path / 'x.npy'}')"), [0, 2, 4])
    assert list(read(str(tmp_path / "p.npz"))) == ["w"]
    with pytest.raises(InputError, match="arrays of objects"):
        read(str(tmp_path / "o.npy"))


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "normal.__class__", "open('x')", "(lambda: 1)()", "x",
     "normal(3", "", "normal('a')", "_called(1)", "[x for x in (1, 2)]", "ones(2, dtype=nonsense)",
     "{**{}}"],
)  # fmt: skip
def test_nothing_is_executed(text):
    with pytest.raises(InputError, match="normal"):
        read(text)


def test_the_error_names_every_function():
    with pytest.raises(InputError) as error:
        read("what(3)")
    assert all(name in str(error.value) for name in FUNCTIONS)
    assert "expected: " in str(error.value)
    assert "the function what" in str(error.value)
    assert all(f"`{name}`" in parse.__doc__ for name in FUNCTIONS)
