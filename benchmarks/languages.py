"""How fast languages are drawn: ours and the earlier systems', in one run on this machine.

    python benchmarks/languages.py

Peers: `l3c` 0.2.2.0 (its metalang v1, v2 and text writer), and a plain NumPy twin of the recurrent v2 of 2023. Each
draws one new language per row, as ours does. Repeats alternate between ours and the peer; medians, the spread (half the
distance between the quartiles, in percent) and their ratio are printed, then one JSON line a figure. Compilation is not
counted. How far we are from the limit of the machine stands below the table.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import xenoglot
from xenoglot.sample_files import text_of

PEER = "l3c==0.2.2.0"
LENGTH = 4096


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One comparison: tokens a second of ours and of a peer.

    Attributes:
        name: What is measured.
        ours: Does the work of one repeat; `our_tokens` says how much that is.
        peer: The same for the peer.
        target: The least ratio.
        aim: The ratio hoped for.
    """

    name: str
    ours: Callable[[], object]
    our_tokens: int
    peer_name: str
    peer: Callable[[], object]
    peer_tokens: int
    target: float
    aim: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    with l3c() as metalang:
        figures = [*figures_of_families(metalang), figure_of_text(metalang)]
        lines = [measure(figure, repeats) for figure in figures]
    print_limits(lines, repeats)
    lines.append(measure_second_process(repeats))
    print()
    for line in lines:
        print(json.dumps(line))


@contextlib.contextmanager
def l3c() -> Iterator[Any]:
    """Import the peer's `metalang` alone: its old `gym` is answered by gymnasium, its other dependencies by nothing."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, PEER]
        subprocess.run([*pip, "--disable-pip-version-check"], check=True)
        sys.path.insert(0, folder)
        for name, module in (
            ("gym", gymnasium),
            ("gym.envs", gymnasium.envs),
            ("gym.envs.registration", gymnasium.envs.registration),
        ):
            sys.modules.setdefault(name, module)
        try:
            yield importlib.import_module("l3c.metalang")
        finally:
            sys.path.remove(folder)


def figures_of_families(metalang: Any) -> list[Figure]:
    """The three generators, at the sizes that the earlier systems publish."""
    v1 = xenoglot.languages.MetaLMv1(vocab_size=64, n_elements=10, element_length=64, error_rate=0.10)
    v2 = xenoglot.languages.MetaLMv2(vocab_size=256, n=16)
    net = xenoglot.languages.NgramNet(vocab_size=256, n=3, embedding_size=16, hidden_size=64)
    seeds = iter(range(10**9))

    def l3c_v1() -> None:
        environment = metalang.MetaLangV1(L=LENGTH)
        for _ in range(32):
            environment.set_task(
                metalang.TaskSamplerV1(seed=next(seeds), n_vocab=64, n_patterns=10, n_gram=64, error_ratio=0.10)
            )
            environment.batch_generator(1)

    def l3c_v2() -> None:
        environment = metalang.MetaLangV2(L=LENGTH)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a mean loss every row
            environment.set_task(metalang.TaskSamplerV2(seed=next(seeds), n_vocab=256, n_emb=16, n_hidden=64, n_gram=3))
            environment.batch_generator(1)

    def draw(family: Any, rows: int) -> Callable[[], object]:
        return lambda: family.batch(rows, LENGTH, seed=next(seeds))

    return [
        Figure(
            name="metalm-v1 V=64 n=10 l=64",
            ours=draw(v1, 1024),
            our_tokens=1024 * LENGTH,
            peer_name="l3c metalang v1",
            peer=l3c_v1,
            peer_tokens=32 * LENGTH,
            target=100,
            aim=100,
        ),
        Figure(
            name="metalm-v2 rnn V=256 n=16",
            ours=draw(v2, 128),
            our_tokens=128 * LENGTH,
            peer_name="NumPy twin",
            peer=lambda: plain_recurrent_row(seed=next(seeds), vocab_size=256, n=16),
            peer_tokens=LENGTH,
            target=60,
            aim=100,
        ),
        Figure(
            name="ngram-net V=256 n=3 d=16 H=64",
            ours=draw(net, 64),
            our_tokens=64 * LENGTH,
            peer_name="l3c metalang v2",
            peer=l3c_v2,
            peer_tokens=LENGTH,
            target=60,
            aim=100,
        ),
    ]


def plain_recurrent_row(*, seed: int, vocab_size: int, n: int) -> list[int]:
    """Draw a random recurrent network and one row of it, a step at a time, as one writes it in NumPy."""
    generator = np.random.Generator(np.random.Philox(seed))
    embeddings = generator.normal(size=(vocab_size, n))
    input_weights, recurrent_weights = generator.normal(size=(n, n)), generator.normal(size=(n, n))
    bias, output_weights = generator.normal(size=n), generator.normal(size=(vocab_size, n))
    output_bias = generator.normal(size=vocab_size)
    hidden, token = np.zeros(n), int(generator.integers(vocab_size))
    row = [token]
    for _ in range(LENGTH):
        hidden = np.tanh(input_weights @ embeddings[token] + recurrent_weights @ hidden + bias)
        logits = output_weights @ hidden + output_bias
        weights = np.exp(logits - logits.max())
        law = weights / weights.sum()
        token = int((law.cumsum() > generator.random()).argmax())
        row.append(token)
    return row


def figure_of_text(metalang: Any) -> Figure:
    """Both text writers, on the same samples, to a file."""
    batch = xenoglot.languages.MetaLMv1(vocab_size=64, n_elements=10, element_length=64).batch(64, LENGTH, seed=0)
    writer = metalang.MetaLangV1(L=LENGTH)
    writer.batch_generator = lambda size: (batch.inputs[:size], batch.targets[:size])
    folder = Path(tempfile.mkdtemp())

    def ours() -> None:
        with open(folder / "ours.txt", "wb") as stream:
            stream.writelines(text_of(batch.inputs, batch.targets))

    def peer() -> None:
        writer.generate_text(16, str(folder / "peer.txt"))

    return Figure(
        name="text writing",
        ours=ours,
        our_tokens=64 * LENGTH,
        peer_name="l3c generate_text",
        peer=peer,
        peer_tokens=16 * LENGTH,
        target=20,
        aim=100,
    )


def measure(figure: Figure, repeats: int) -> dict[str, Any]:
    """Time both sides in turn, after one unmeasured run of each."""
    sides = ((figure.ours, figure.our_tokens), (figure.peer, figure.peer_tokens))
    rates: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for (work, tokens), collected in zip(sides, rates, strict=True):
            started = time.perf_counter()
            work()
            if repeat > 0:
                collected.append(tokens / (time.perf_counter() - started))
    (ours, our_spread), (peer, peer_spread) = (middle_and_spread(collected) for collected in rates)
    ratio = ours / peer
    print(
        f"{figure.name:30} {ours / 1e6:9.2f} M tokens/s ±{our_spread:3.0f} %   {figure.peer_name:18} "
        f"{peer / 1e6:7.3f} M ±{peer_spread:3.0f} %   {ratio:6.0f} x "
        f"(at least {figure.target:.0f}, aim {figure.aim:.0f})"
    )
    return {
        "name": figure.name,
        "value": ours,
        "unit": "tokens/s",
        "spread_percent": our_spread,
        "peer": {"name": figure.peer_name, "value": peer, "spread_percent": peer_spread},
        "ratio": ratio,
        "target": figure.target,
        "holds": ratio >= figure.target,
    }


def middle_and_spread(values: list[float]) -> tuple[float, float]:
    """Return the median, and half the distance between the quartiles in percent of it."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(50 * (high - low) / middle)


def print_limits(lines: list[dict[str, Any]], repeats: int) -> None:
    """Say how far the generators are from what this machine could do at most: writing for v1, arithmetic for v2."""
    v1, v2 = lines[0]["value"], lines[1]["value"]
    tokens = np.empty((1024, LENGTH), np.int32)

    def write() -> float:
        started = time.perf_counter()
        np.copyto(
            np.empty_like(tokens), tokens
        )  # reads and writes as much as the inputs; the targets are as much again
        return tokens.size / 2 / (time.perf_counter() - started)

    square = np.ones((1024, 1024))

    def multiply() -> float:
        started = time.perf_counter()
        square @ square
        return 1024**3 / (time.perf_counter() - started)

    writing = float(np.median([write() for _ in range(repeats)]))
    multiply_adds = float(np.median([multiply() for _ in range(repeats)]))
    per_token = 256 * 16 + 16 * 16  # the output and the recurrent product; the exponentials come on top
    print(
        f"\nlimits: copying fresh memory with one core allows {writing / 1e6:,.0f} M tokens/s of metalm-v1; we reach "
        f"{v1 / writing:.0%} of that.\nThe matrix library does {multiply_adds / 1e9:,.1f} G multiply-adds/s (float64); "
        f"metalm-v2's products need {per_token:,} a token,\nwhich is {v2 * per_token / multiply_adds:.0%} of that: the "
        "rest goes to 256 exponentials, the draw, and waiting for the token before."
    )


def measure_second_process(repeats: int) -> dict[str, Any]:
    """Time a new process from its start to its first batch, with the compiled code in its cache."""
    code = "import xenoglot; xenoglot.languages.MetaLMv1().batch(8, 4096, seed=0, floor=True)"
    seconds = []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        if repeat > 0:
            seconds.append(time.perf_counter() - started)
    middle, spread = middle_and_spread(seconds)
    print(f"\na second process has its first batch after {middle:.2f} s ±{spread:.0f} % (at most 2)")
    return {
        "name": "second process, first batch",
        "value": middle,
        "unit": "s",
        "spread_percent": spread,
        "peer": None,
        "ratio": None,
        "target": 2.0,
        "holds": middle <= 2.0,
    }


if __name__ == "__main__":
    main()
