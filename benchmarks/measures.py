"""What measures of two representations cost: 1,000 examples of 512 numbers each, float32.

    python benchmarks/measures.py

The peer of each is its definition as it is usually written down: Gram matrices of all examples, multiplied by the
centring matrix from both sides, for CKA; inverse square roots of covariances for PWCCA. All take turns in one run;
medians of the seconds, and half the distance between their quartiles. Values of both must agree. And one head's OV
circuit, 512 wide and 64 inside: its effective rank by its factors, and multiplied out.

Threads that wait for each other on a machine that others use as well measure those others: there, ``--shared`` takes
one thread, and its processor time instead of the clock's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xenoglot import measures
from xenoglot.measures import Product
from xenoglot.rng import generator

N_EXAMPLES, WIDTH, HEAD_SIZE = 1000, 512, 64
LIMIT_SECONDS = 0.5
CIRCUIT_TARGET = 5.0
"""At least so many times faster by its factors than multiplied out."""

AGREEMENT = dict.fromkeys(measures.names("pair"), 1e-6) | {"pwcca": 1e-2}
"""With 2 x 512 directions of 1,000 examples some correlations are 1, and the definition leaves their weights open."""

Matrix = NDArray[np.float64]
Way = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shared", action="store_true", help="the machine is not ours alone: one thread, its own time")
    given = parser.parse_args()
    if given.shared:
        start_again_with_one_thread()
    clock = time.process_time if given.shared else time.perf_counter
    lines = [*compare_pairs(given.repeats, clock), compare_circuits(given.repeats, clock)]
    print()
    for line in lines:
        print(json.dumps(line))


def start_again_with_one_thread() -> None:
    """NumPy's library reads how many threads it may have when it is loaded: only a new start changes it."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})


def representations() -> tuple[torch.Tensor, torch.Tensor]:
    """Two that have a part in common, with spectra that fall as activations' do."""
    rng = generator(0, "benchmark")
    spectrum = 1 / np.arange(1, WIDTH + 1)
    shared = rng.standard_normal((N_EXAMPLES, WIDTH)) * spectrum
    both = []
    for _ in range(2):
        own = rng.standard_normal((N_EXAMPLES, WIDTH)) * spectrum
        turn, _triangle = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
        both.append(torch.tensor((shared + own) @ turn + 1, dtype=torch.float32))
    return both[0], both[1]


def naive_biased(first_NN: Matrix, second_NN: Matrix) -> float:
    middle_NN = np.eye(N_EXAMPLES) - np.full((N_EXAMPLES, N_EXAMPLES), 1 / N_EXAMPLES)
    return float(np.trace(first_NN @ middle_NN @ second_NN @ middle_NN))


def naive_unbiased(first_NN: Matrix, second_NN: Matrix) -> float:
    n, ones = N_EXAMPLES, np.ones((N_EXAMPLES, 1))
    first_NN, second_NN = (gram_NN - np.diag(np.diag(gram_NN)) for gram_NN in (first_NN, second_NN))
    trace = np.trace(first_NN @ second_NN)
    sums = (ones.T @ first_NN @ ones) * (ones.T @ second_NN @ ones) / ((n - 1) * (n - 2))
    return float((trace + sums - 2 / (n - 2) * ones.T @ first_NN @ second_NN @ ones).item())


def linear(values_ND: Matrix) -> Matrix:
    gram_NN: Matrix = values_ND @ values_ND.T
    return gram_NN


def gaussian(values_ND: Matrix) -> Matrix:
    squared_NN = np.stack([np.square(values_ND - row_D).sum(axis=1) for row_D in values_ND])
    width = np.median(np.sqrt(squared_NN[np.triu_indices(N_EXAMPLES, 1)]))
    gram_NN: Matrix = np.exp(-squared_NN / (2 * width**2))
    return gram_NN


def naive_cka(
    criterion: Callable[[Matrix, Matrix], float], kernel: Callable[[Matrix], Matrix], first: Matrix, second: Matrix
) -> float:
    first_NN, second_NN = kernel(first), kernel(second)
    lengths = criterion(first_NN, first_NN) * criterion(second_NN, second_NN)
    return criterion(first_NN, second_NN) / math.sqrt(lengths)


def inverse_root(covariance_DD: Matrix) -> Matrix:
    values_D, directions_DD = np.linalg.eigh(covariance_DD)
    root_DD: Matrix = (directions_DD / np.sqrt(values_D)) @ directions_DD.T
    return root_DD


def naive_pwcca(first_ND: Matrix, second_ND: Matrix) -> float:
    first_ND, second_ND = first_ND - first_ND.mean(axis=0), second_ND - second_ND.mean(axis=0)
    white_DD, other_DD = inverse_root(first_ND.T @ first_ND), inverse_root(second_ND.T @ second_ND)
    turns_DD, correlations_D, _ = np.linalg.svd(white_DD @ (first_ND.T @ second_ND) @ other_DD)
    variables_ND = first_ND @ (white_DD @ turns_DD)
    weights_D = np.abs(variables_ND.T @ first_ND).sum(axis=1)
    return float(weights_D @ correlations_D / weights_D.sum())


def naive_ways(first: torch.Tensor, second: torch.Tensor) -> dict[str, Way]:
    x, y = first.double().numpy(), second.double().numpy()
    return {
        "cka": lambda: naive_cka(naive_biased, linear, x, y),
        "cka_debiased": lambda: naive_cka(naive_unbiased, linear, x, y),
        "cka_rbf": lambda: naive_cka(naive_biased, gaussian, x, y),
        "cka_rbf_debiased": lambda: naive_cka(naive_unbiased, gaussian, x, y),
        "pwcca": lambda: naive_pwcca(x, y),
    }


def timed(ways: dict[str, Way], repeats: int, clock: Callable[[], float]) -> dict[str, tuple[float, float]]:
    """Return each way's median of the seconds and half the distance of their quartiles; all take turns."""
    seconds = {name: np.empty(repeats) for name in ways}
    for repeat in range(-1, repeats):  # one turn to warm up
        for name, way in ways.items():
            started = clock()
            way()
            if repeat >= 0:
                seconds[name][repeat] = clock() - started
    quartiles = {name: np.percentile(of_way, [25, 50, 75]) for name, of_way in seconds.items()}
    return {name: (float(middle), float(high - low) / 2) for name, (low, middle, high) in quartiles.items()}


def print_line(name: str, seconds: tuple[float, float], peer: float) -> None:
    middle, spread = seconds
    print(
        f"{name:20} {1e3 * middle:7.1f} ±{1e3 * spread:5.1f} ms, peer {1e3 * peer:7.1f} ms, ratio {peer / middle:4.1f}"
    )


def compare_pairs(repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    first, second = representations()
    naive = naive_ways(first, second)
    assert set(naive) == set(measures.names("pair"))
    ours: dict[str, Way] = {name: lambda name=name: measures.get(name)(first, second) for name in naive}  # type: ignore[misc]
    found = timed(ours | {f"{name}, naive": way for name, way in naive.items()}, repeats, clock)
    lines = []
    for name in naive:
        value, expected = ours[name](), naive[name]()
        assert abs(value - expected) < AGREEMENT[name], f"{name}: {value} is not {expected}"
        (seconds, spread), (peer, _) = found[name], found[f"{name}, naive"]
        print_line(name, found[name], peer)
        lines.append(
            {
                "name": f"{name} of {N_EXAMPLES} x {WIDTH}",
                "value": seconds,
                "unit": "s",
                "spread": spread,
                "peer": {"name": "the definition as it is written down", "value": peer},
                "ratio": peer / seconds,
                "target": LIMIT_SECONDS,
                "holds": seconds < LIMIT_SECONDS,
            }
        )
    return lines


def compare_circuits(repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    rng, per = generator(0, "circuit"), measures.get("per")
    circuit = Product(rng.standard_normal((WIDTH, HEAD_SIZE)), rng.standard_normal((HEAD_SIZE, WIDTH)))
    ways: dict[str, Way] = {
        "factors": lambda: per(circuit),
        "multiplied out": lambda: per(circuit.left_DK @ circuit.right_KE),
    }
    assert abs(ways["factors"]() - ways["multiplied out"]()) < 1e-6
    found = timed(ways, repeats, clock)
    (seconds, spread), (peer, _) = found["factors"], found["multiplied out"]
    print_line("per of a circuit", found["factors"], peer)
    return {
        "name": f"per of an OV circuit, {WIDTH} wide, {HEAD_SIZE} inside",
        "value": seconds,
        "unit": "s",
        "spread": spread,
        "peer": {"name": "multiplied out", "value": peer},
        "ratio": peer / seconds,
        "target": CIRCUIT_TARGET,
        "holds": peer / seconds >= CIRCUIT_TARGET,
    }


if __name__ == "__main__":
    main()
