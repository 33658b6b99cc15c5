"""How fast masked-word tasks are drawn from a large text, how fast its index is built, and in how much memory.

```
python benchmarks/episodes.py
```

The text is made here, 100 MB of it: 300,000 words of random letters, as frequent as 1 / rank (Zipf), in sentences of 6
to 34 words. It is read in a process of its own by one thread, bytes as tokens, with compiled code in its cache. A task
is 5-way, 4-shot with 8 queries a word, whole: all tensors of the support and of the query set. The same is done with
5 MB and a byte-level BPE, where the tokenizer, which is not ours, takes most of the time that the index needs.

The peer is a public re-implementation of SMLMT in PyTorch (hjkim811/SMLMT-PyTorch), which went through the corpus for
every task: its author states 5 days and 7.5 hours for 50,000 two-way tasks. That is cited, not run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PEER_SECONDS = 9.0
MEGABYTE = 10**6
SIZES = {"n_way": 5, "k_shot": 4, "q_query": 8}
TASKS_AT_ONCE = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--measure", nargs=2, metavar=("TEXT", "TOKENIZER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(Path(given.measure[0]), given.measure[1], given.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large.txt"), Path(folder, "small.txt")
        write_text(large, given.megabytes)
        write_text(small, 5)
        as_bytes = in_own_process(large, "bytes", given.repeats)
        as_subwords = in_own_process(small, "bpe", given.repeats)
    lines = figures(as_bytes, as_subwords)
    for line in lines:
        target = "" if line["target"] is None else f"   ({line['bound']} {line['target']:g})"
        print(f"{line['name']:46} {line['value']:12,.1f} {line['unit']}{target}")
    print()
    for line in lines:
        print(json.dumps({key: value for key, value in line.items() if key != "bound"}))


def write_text(path: Path, megabytes: int) -> None:
    """Write a text of words as frequent as in a language, from a seed."""
    generator = np.random.Generator(np.random.Philox(key=17))
    letters = generator.integers(97, 123, size=(300_000, 12), dtype=np.uint8)
    sizes = np.clip(generator.poisson(2 + np.log10(1 + np.arange(len(letters)))), 1, 12)
    words = np.array([bytes(row[:size]).decode() for row, size in zip(letters, sizes, strict=True)])
    edges = np.cumsum(1 / (1 + np.arange(len(words))))
    with open(path, "w") as file:
        while file.tell() < megabytes * MEGABYTE:
            ends = np.cumsum(generator.integers(6, 35, size=5000))
            drawn = words[np.searchsorted(edges, generator.random(ends[-1]) * edges[-1])]
            file.writelines(" ".join(sentence).capitalize() + ".\n" for sentence in np.split(drawn, ends[:-1]))


def in_own_process(text: Path, tokenizer: str, repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--repeats", str(repeats), "--measure", str(text), tokenizer]
    environment = os.environ | {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(text: Path, tokenizer_name: str, repeats: int) -> dict[str, Any]:
    """Build the index of a text and draw tasks from it."""
    from xenoglot.corpus.subwords import train_bpe
    from xenoglot.corpus.text_files import TextFiles
    from xenoglot.episodes.smlmt import SMLMT

    tokenizer: Any = tokenizer_name
    if tokenizer_name == "bpe":
        tokenizer = train_bpe(TextFiles(text).documents(), 8192)
    warm_up = [f"{word} number {i} is here" for word in ("one", "two", "three", "four") for i in range(60)]
    SMLMT.from_sentences(warm_up, tokenizer, n_way=2, k_shot=1, q_query=1, held_out_share=0)(0)
    before_bytes, started = resident_bytes(), time.perf_counter()
    tasks = SMLMT.from_sentences(text, tokenizer, cache_dir=text.parent / "cache", **SIZES)
    seconds = time.perf_counter() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.perf_counter()
    SMLMT.from_sentences(text, tokenizer, cache_dir=text.parent / "cache", **SIZES)
    return {
        "megabytes": text.stat().st_size / MEGABYTE,
        "seconds": seconds,
        "reopening_seconds": time.perf_counter() - started,
        "memory_ratio": (peak_bytes - before_bytes) / text.stat().st_size,
        "tasks_per_second": [drawing_rate(tasks, repeat * TASKS_AT_ONCE) for repeat in range(repeats + 1)][1:],
        "counts": dict(tasks.counts),
    }


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def drawing_rate(tasks: Any, first: int) -> float:
    started = time.perf_counter()
    for index in range(first, first + TASKS_AT_ONCE):
        tasks(index)
    return TASKS_AT_ONCE / (time.perf_counter() - started)


def figures(as_bytes: dict[str, Any], as_subwords: dict[str, Any]) -> list[dict[str, Any]]:
    large, small = (
        f"{found['megabytes']:.0f} MB, {name}" for found, name in ((as_bytes, "bytes"), (as_subwords, "BPE"))
    )
    peer = {"name": "SMLMT-PyTorch, as its author states", "value": 1 / PEER_SECONDS}
    return [
        figure(f"tasks drawn, 5-way 4-shot, {large}", as_bytes["tasks_per_second"], "tasks/s", least=10_000, peer=peer),
        figure(f"tasks drawn, 5-way 4-shot, {small}", as_subwords["tasks_per_second"], "tasks/s", peer=peer),
        figure(f"index building, {large}", [as_bytes["megabytes"] / as_bytes["seconds"]], "MB/s", least=20),
        figure(f"index building, {small}", [as_subwords["megabytes"] / as_subwords["seconds"]], "MB/s"),
        figure(f"memory for building, {large}", [as_bytes["memory_ratio"]], "times the text", most=4),
        figure(f"opening again, {large}", [as_bytes["reopening_seconds"]], "s"),
    ]


def figure(
    name: str,
    values: list[float],
    unit: str,
    *,
    least: float | None = None,
    most: float | None = None,
    peer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {
        "name": name,
        "value": float(middle),
        "unit": unit,
        "spread_percent": float(50 * (high - low) / middle),
        "peer": peer,
        "ratio": None if peer is None else float(middle / peer["value"]),
        "target": most if least is None else least,
        "bound": "at least" if most is None else "at most",
        "holds": bool((least is None or middle >= least) and (most is None or middle <= most)),
    }


if __name__ == "__main__":
    main()
