"""The compiled primitives against plain twins, published vectors and scipy's distributions."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import xenoglot
from xenoglot import kernels
from xenoglot.kernels import compiled


def plain_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in plain Python whole numbers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that Random123 ships (Salmon et al. 2011)
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    block, stream, low, high = counter
    words = kernels.philox(np.uint64(key[0] | key[1] << 32), stream, low, high, block)
    assert [int(word) for word in words] == expected
    assert plain_philox(counter, key) == expected


@compiled
def _words(seed, stream, row, count):  # type: ignore[no-untyped-def]
    source = kernels.open_stream(seed, stream, row)
    out = np.empty(count, np.int64)
    for i in range(count):
        out[i] = kernels.next_word(source)
    return out


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), row=st.integers(0, 2**63 - 1), stream=st.integers(0, 9))
def test_a_stream_is_philox_of_seed_stream_row_and_block(seed: int, row: int, stream: int) -> None:
    expected = []
    for first in (0, 32):  # the buffer holds 32 blocks: all first words, then all second words, ...
        blocks = [
            plain_philox([first + b, stream, row % 2**32, row >> 32], [seed % 2**32, seed >> 32]) for b in range(32)
        ]
        expected += [block[word] for word in range(4) for block in blocks]
    assert _words(seed, stream, row, 200).tolist() == expected[:200]


@compiled
def _apply(which, x):  # type: ignore[no-untyped-def]
    out = np.empty_like(x)
    for i in range(len(x)):
        if which == 0:
            out[i] = kernels.exponential(x[i])
        elif which == 1:
            out[i] = kernels.logarithm(x[i])
        elif which == 2:
            out[i] = kernels.hyperbolic_tangent(x[i])
        else:
            out[i] = kernels.power_of_two(x[i])
    return out


def test_the_logarithm_of_a_complement_keeps_small_probabilities() -> None:
    for probability in (0.0, 1e-300, 1e-17, 3e-16, 1e-9, 0.05, 0.3, 0.999):
        assert kernels.log_complement(probability) == pytest.approx(math.log1p(-probability), rel=1e-14, abs=0)
    assert kernels.log_complement(1.0) < -700


def test_elementary_functions_match_numpy() -> None:
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(-690, 690, 10_000), generator.normal(size=10_000), [0.0]])
    assert np.abs(_apply(0, x) / np.exp(x) - 1).max() < 3e-13
    assert np.abs(_apply(3, x) / np.exp2(x) - 1).max() < 3e-14
    assert np.abs(_apply(2, x) - np.tanh(x)).max() < 1e-13
    positive = np.concatenate([np.exp(x), 1 + generator.normal(size=1000) * 1e-9])
    assert np.abs(_apply(1, positive) - np.log(positive)).max() < 2e-13
    assert _apply(1, np.ones(1))[0] == 0.0


@pytest.mark.parametrize("rows", [5, 16, 64])
def test_single_precision_weights_are_within_the_bound_that_rejection_relies_on(rows: int) -> None:
    generator = np.random.default_rng(rows)
    matrix = generator.normal(size=(rows, 500)).astype(np.float32)
    vector, offset = generator.uniform(-1, 1, rows).astype(np.float32), generator.normal(size=500).astype(np.float32)
    logits, weights = np.empty(500, np.float32), np.empty(500, np.float32)
    kernels.copy_to(logits, offset)
    kernels.add_product(matrix, vector, logits)
    kernels.set_powers_of_two_single(logits, weights)
    exact = np.exp2(offset.astype(np.float64) + vector.astype(np.float64) @ matrix)
    bound = (np.abs(offset) + np.abs(matrix).sum(axis=0)).max()
    assert np.abs(weights / exact - 1).max() < 2.0**-24 * (rows + 8) * bound + 2e-6


def test_normals_match_their_plain_twin_and_the_normal_law() -> None:
    drawn = np.empty(100_001)
    assert kernels.fill_normals(5, 2, 9, 0, drawn) == 50_001
    for i in (0, 1, 777, 49_999):
        w0, w1, w2, w3 = plain_philox([i, 2, 9, 0], [5, 0])
        radius_uniform = ((w0 >> 6) * 2**26 + (w1 >> 6) + 0.5) / 2**52
        turn = ((w2 >> 6) * 2**26 + (w3 >> 6) + 0.5) / 2**52
        radius = math.sqrt(-2 * math.log(radius_uniform))
        assert drawn[i] == pytest.approx(radius * math.cos(2 * math.pi * turn), abs=1e-12)
        assert drawn[50_000 + i] == pytest.approx(radius * math.sin(2 * math.pi * turn), abs=1e-12)
    assert scipy.stats.kstest(drawn, "norm").pvalue > 1e-4


@compiled
def _variates(which, parameter, count):  # type: ignore[no-untyped-def]
    source = kernels.open_stream(11, 1, 3)
    out = np.empty(count)
    least, cumulative = kernels.poisson_table(parameter)
    for i in range(count):
        if which == 0:
            out[i] = least + kernels.sample_cumulative(cumulative, kernels.next_uniform(source))
        elif which == 1:
            out[i] = kernels.log_gamma_variate(source, parameter)
        elif which == 2:
            out[i] = kernels.bounded_integer(source, int(parameter))
        else:
            out[i] = kernels.next_uniform(source)
    return out


@pytest.mark.parametrize("mean", [0.3, 8.0, 64.0, 1e6])
def test_poisson_has_its_law(mean: float) -> None:
    drawn = _variates(0, mean, 40_000)
    edges = np.unique(scipy.stats.poisson.ppf(np.linspace(0.02, 0.98, 25), mean))
    probabilities = np.diff(np.concatenate([[0.0], scipy.stats.poisson.cdf(edges, mean), [1.0]]))
    counts = np.bincount(np.searchsorted(edges, drawn, side="left"), minlength=len(probabilities))
    assert scipy.stats.chisquare(counts, probabilities * len(drawn)).pvalue > 1e-4


@pytest.mark.parametrize("shape", [0.02, 0.5, 1.0, 30.0])
def test_log_gamma_has_its_law(shape: float) -> None:
    drawn = _variates(1, shape, 40_000)
    assert scipy.stats.kstest(drawn, scipy.stats.loggamma(shape).cdf).pvalue > 1e-4


@pytest.mark.parametrize("bound", [1, 2, 3, 63, 64, 1000])
def test_bounded_integers_are_uniform(bound: int) -> None:
    counts = np.bincount(_variates(2, bound, 200_000).astype(int), minlength=bound)
    assert len(counts) == bound
    assert bound == 1 or scipy.stats.chisquare(counts).pvalue > 1e-4


def test_uniforms_are_uniform_and_never_reach_the_ends() -> None:
    drawn = _variates(3, 0.0, 200_000)
    assert drawn.min() > 0.0
    assert drawn.max() < 1.0
    assert scipy.stats.kstest(drawn, "uniform").pvalue > 1e-4


@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.floats(0.001, 10.0), min_size=1, max_size=300), share=st.floats(0, 1, exclude_max=True))
def test_the_sum_tree_gives_every_index_its_exact_share(weights: list[float], share: float) -> None:
    array = np.array(weights)
    levels, sums = kernels.open_sum_tree(len(array))
    total = kernels.sum_tree(array, levels, sums)
    assert total == pytest.approx(math.fsum(weights), rel=1e-13)
    assert 0 <= kernels.sample_tree(array, levels, sums, share * total) < len(array)


def test_sampling_by_the_tree_hits_every_index_in_proportion() -> None:
    weights = np.random.default_rng(3).exponential(size=37)
    levels, sums = kernels.open_sum_tree(len(weights))
    total = kernels.sum_tree(weights, levels, sums)
    steps = 200_000  # an even grid of wanted sums: each index owns its share of it, up to its two edges
    hits = np.bincount(
        [kernels.sample_tree(weights, levels, sums, (i + 0.5) / steps * total) for i in range(steps)], minlength=37
    )
    assert np.abs(hits / steps - weights / weights.sum()).max() < 2.5 / steps


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("rows", [1, 7, 8, 19])
def test_products_match_numpy(kind: type, rows: int) -> None:
    generator = np.random.default_rng(rows)
    matrix, vector = generator.normal(size=(rows, 21)).astype(kind), generator.normal(size=rows).astype(kind)
    out = generator.normal(size=21).astype(kind)
    expected = out + vector @ matrix
    kernels.add_product(matrix, vector, out)
    np.testing.assert_allclose(out, expected, rtol=1e-4 if kind is np.float32 else 1e-12, atol=1e-5)


def test_an_edited_kernel_is_compiled_again_into_what_calls_it_from_another_file(tmp_path: Path) -> None:
    """What is cached must not be the law of an earlier version."""
    shutil.copytree(Path(xenoglot.__file__).parent, tmp_path / "xenoglot", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom xenoglot.kernels import compiled, slot_of\n\n"
        "@compiled\ndef slot(keys):\n    return slot_of(keys, 5)\n\n"
        "print(slot(np.zeros(1 << 20, np.uint64)), sum(slot.stats.cache_hits.values()))\n"
    )

    def said() -> list[str]:
        done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    slot, _ = said()
    assert said() == [slot, "1"]  # cached
    kernel = tmp_path / "xenoglot" / "kernels" / "hashing.py"
    kernel.write_text(kernel.read_text().replace("0xBF58476D1CE4E5B9", "0x94D049BB133111EB"))
    other, n_hits = said()
    assert other != slot
    assert n_hits == "0"
