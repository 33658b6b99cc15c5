"""What a meta step costs: its time over an autoregressive step's, and the memory of each order of gradient.

    python benchmarks/meta.py

Time: forward and backward pass of a task (5-way, 4 sentences a class in each set, 64 tokens each; 10 inner steps) over
forward and backward pass of next-token prediction on as many tokens as the query set has, as published comparisons
count; over as many as both sets have it is half of that. The peer is the earlier system's way, Pico-MAML's: a frozen
decoder encodes the support set again for every inner step, and the head gives logits of all ids at all positions; a
line below says what is left where it gives only those that are used. All take turns in one run; medians of the ratios
within a turn, and half the distance between their quartiles.

Memory: full-parameter MAML with 10 inner steps on 8 sentences of 128 tokens, each order in a process of its own (on
Linux); the greatest resident memory less what there was before.

Threads that wait for each other on a machine that others use as well measure those others: there, ``--shared`` takes
one thread, and its processor time instead of the clock's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode, Examples
from xenoglot.rng import derive, generator

N_WAY = 5
N_STEPS = 10
VOCAB_SIZE = 512
INNER_LR = 0.01
PROCESS = Path("/proc/self")
HEAD = ClassifierHeadConfig(kind="mlp", num_layers=3, hidden_dim=128)  # Pico-MAML's, whose fourth layer is the output

LIMITS = {"first": 1.5, "exact": 2.2, "ridge": 2.2, "prototype": 2.2}
"""Greatest ratio of a meta step's time to an autoregressive step's."""
MEMORY_LIMIT = 1 / 3
"""Greatest share of the memory of `exact` that `adjoint` may need."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)  # what a process of its own is started with
    parser.add_argument("--shared", action="store_true", help="the machine is not ours alone: one thread, its own time")
    given = parser.parse_args()
    if given.shared:
        torch.set_num_threads(1)
    if given.memory_of:
        print(json.dumps(measure_memory(given.memory_of)))
        return
    clock = time.process_time if given.shared else time.perf_counter
    lines = [*compare_times(given.repeats, clock), *compare_memory(given.shared)]
    print()
    for line in lines:
        print(json.dumps(line))


def a_decoder(n_layers: int, d_model: int) -> Decoder:
    """A decoder whose vocabulary is small, so that its output matrix does not make meta steps look cheap."""
    config = ModelConfig(
        d_model=d_model,
        n_layers=n_layers,
        attention_n_heads=4,
        attention_n_kv_heads=4,
        activation_hidden_dim=3 * d_model,
        max_seq_len=128,
        vocab_size=VOCAB_SIZE,
    )
    return Decoder(config)


def an_episode(n_way: int, n_shot: int, length: int) -> Episode:
    """Sentences of random ids; time and memory do not depend on them."""
    rng = torch.Generator().manual_seed(derive(0, "benchmark"))
    labels_N = torch.arange(n_way * n_shot) % n_way
    lengths_N = torch.full_like(labels_N, length)

    def examples() -> Examples:
        token_ids_NT = torch.randint(1, VOCAB_SIZE, (len(labels_N), length), generator=rng)
        return Examples(
            token_ids_NT=token_ids_NT, lengths_N=lengths_N, mask_positions_N=lengths_N - 1, labels_N=labels_N
        )

    return Episode(support=examples(), query=examples(), n_way=n_way, identity="benchmark")


def meta_step(learner: MetaLearner, decoder: Decoder, episode: Episode) -> Callable[[], None]:
    return lambda: torch.autograd.backward(learner(decoder, episode, generator(0)).loss)


def autoregressive_step(decoder: Decoder, token_ids_NT: torch.Tensor) -> Callable[[], None]:
    inputs, targets = token_ids_NT, token_ids_NT.roll(-1, dims=1)
    return lambda: torch.autograd.backward(F.cross_entropy(decoder(inputs).flatten(0, 1), targets.flatten()))


def earlier_way(decoder: Decoder, episode: Episode, *, reads_all: bool) -> Callable[[], None]:
    """Head-only first-order MAML by an optimizer: the support set is encoded again for every step.

    With ``reads_all``, as in Pico-MAML's released code, its head of three hidden layers gives logits of the whole
    vocabulary at every position, of which one position's and the task's classes are used.
    """
    n_outputs = VOCAB_SIZE if reads_all else N_WAY
    support, query = episode.support, episode.query

    def loss(head: nn.Module, examples: Examples) -> torch.Tensor:
        hidden_NTD = decoder.model(examples.token_ids_NT)
        logits_NC = head(hidden_NTD)[:, -1] if reads_all else head(hidden_NTD[:, -1])
        return F.cross_entropy(logits_NC[:, :N_WAY], examples.labels_N)

    def step() -> None:
        widths = [decoder.config.d_model, *[HEAD.hidden_dim] * HEAD.num_layers]
        hidden = [part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        head = nn.Sequential(*hidden, nn.Linear(widths[-1], n_outputs))
        optimizer = torch.optim.SGD(head.parameters(), lr=INNER_LR)
        for _ in range(N_STEPS):
            decoder.requires_grad_(False)
            optimizer.zero_grad()
            torch.autograd.backward(loss(head, support))
            optimizer.step()
            decoder.requires_grad_(True)
        torch.autograd.backward(loss(head, query))

    return step


def compare_times(repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    decoder, episode = a_decoder(n_layers=4, d_model=128), an_episode(N_WAY, 4, 64)
    config = AdaptationConfig(inner_steps=N_STEPS, inner_lr=INNER_LR)
    first = AdaptationConfig(inner_steps=N_STEPS, inner_lr=INNER_LR, order="first")
    ways = {
        "autoregressive": autoregressive_step(decoder, episode.query.token_ids_NT),
        "first": meta_step(MetaLearner(first, HEAD, decoder), decoder, episode),
        "exact": meta_step(MetaLearner(config, HEAD, decoder), decoder, episode),
        "ridge": meta_step(MetaLearner(config, ClassifierHeadConfig(kind="ridge"), decoder), decoder, episode),
        "prototype": meta_step(MetaLearner(config, ClassifierHeadConfig(kind="prototype"), decoder), decoder, episode),
        "earlier": earlier_way(decoder, episode, reads_all=True),
        "lean": earlier_way(decoder, episode, reads_all=False),
    }
    seconds = {name: np.empty(repeats) for name in ways}
    for repeat in range(-2, repeats):  # two turns to warm up
        for name, step in ways.items():
            started = clock()
            step()
            if repeat >= 0:
                seconds[name][repeat] = clock() - started
    n_tokens = episode.query.token_ids_NT.numel()
    print(f"an autoregressive step on {n_tokens} tokens: {1e3 * np.median(seconds['autoregressive']):.1f} ms\n")
    ratios = {name: of_way / seconds["autoregressive"] for name, of_way in seconds.items()}
    earlier, spread = middle_and_spread(ratios["earlier"])
    lean, lean_spread = middle_and_spread(ratios["lean"])
    print(f"{'the earlier way, encoding every step':40} {earlier:5.2f} ±{spread:.2f} autoregressive steps")
    print(f"{'the same, its head where it is read only':40} {lean:5.2f} ±{lean_spread:.2f}")
    return [figure_of_time(name, ratios[name], earlier) for name in LIMITS]


def figure_of_time(name: str, ratios: np.ndarray[Any, np.dtype[np.float64]], earlier: float) -> dict[str, Any]:
    middle, spread = middle_and_spread(ratios)
    label = f"head only, {name} order" if name in ("first", "exact") else f"{name} head"
    print(f"{label:40} {middle:5.2f} ±{spread:.2f} (at most {LIMITS[name]}); {earlier / middle:.1f} times less")
    return {
        "name": f"meta step, {label}",
        "value": middle,
        "unit": "autoregressive steps",
        "spread": spread,
        "peer": {"name": "encoding the support set for every inner step", "value": earlier},
        "ratio": earlier / middle,
        "target": LIMITS[name],
        "holds": middle <= LIMITS[name],
    }


def middle_and_spread(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Return the median, and half the distance between the quartiles."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(high - low) / 2


def measure_memory(order: str) -> dict[str, float]:
    """Return the memory of one full-parameter meta step in MiB beyond what was there before, and its processor time."""
    decoder, episode = a_decoder(n_layers=3, d_model=64), an_episode(4, 2, 128)
    config = AdaptationConfig(adapts="all", order=order, inner_steps=N_STEPS, inner_lr=INNER_LR)
    learner = MetaLearner(config, ClassifierHeadConfig(kind="linear"), decoder)
    one_step = AdaptationConfig(adapts="all", order="first", inner_steps=0)
    meta_step(
        MetaLearner(one_step, ClassifierHeadConfig(kind="linear"), decoder), decoder, episode
    )()  # gradients exist
    PROCESS.joinpath("clear_refs").write_text("5")  # the greatest memory so far becomes that of now
    before_mib, started = resident_mib("VmRSS"), time.process_time()
    meta_step(learner, decoder, episode)()
    return {"mib": resident_mib("VmHWM") - before_mib, "seconds": time.process_time() - started}


def resident_mib(line: str) -> float:
    [kib] = re.findall(rf"^{line}:\s+(\d+) kB", PROCESS.joinpath("status").read_text(), re.MULTILINE)
    return int(kib) / 1024


def compare_memory(is_shared: bool) -> list[dict[str, Any]]:
    found = {}
    print(f"\nfull-parameter MAML, {N_STEPS} steps")
    for order in ("exact", "checkpoint", "adjoint", "first"):
        command = [sys.executable, __file__, "--memory-of", order, *(["--shared"] if is_shared else [])]
        # Blocks of 64 KiB go back to the system when they are free: what stays resident is what is in use.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found[order] = json.loads(done.stdout)
        share = found[order]["mib"] / found["exact"]["mib"]
        print(f"{order:40} {found[order]['mib']:5.0f} MiB, {share:.2f} of exact; {found[order]['seconds']:.2f} s")
    share = found["adjoint"]["mib"] / found["exact"]["mib"]
    print(f"adjoint needs {share:.2f} of the memory of exact (at most {MEMORY_LIMIT:.2f})")
    return [
        {
            "name": f"full-parameter MAML, {N_STEPS} steps, adjoint",
            "value": found["adjoint"]["mib"],
            "unit": "MiB",
            "peer": {"name": "exact, one graph of all steps", "value": found["exact"]["mib"]},
            "ratio": found["exact"]["mib"] / found["adjoint"]["mib"],
            "target": 1 / MEMORY_LIMIT,
            "holds": share <= MEMORY_LIMIT,
        }
    ]


if __name__ == "__main__":
    main()
