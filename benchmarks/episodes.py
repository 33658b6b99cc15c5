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
from collections.abc import Callable
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
        clock = "" if line["clock_value"] is None else f"{line['clock_value']:12,.1f} by the clock"
        target = "" if line["target"] is None else f"   (target {line['target']:,})"
        print(f"{line['name']:46} {line['value']:12,.1f} {line['unit']:15}{clock}{target}")
    print()
    for line in lines:
        print(json.dumps(line))


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
    folder = text.parent / "cache"
    warm_up = [f"{word} number {i} is here" for word in ("one", "two", "three", "four") for i in range(60)]
    SMLMT.from_sentences(warm_up, tokenizer, n_way=2, k_shot=1, q_query=1, held_out_share=0)(0)
    before_bytes = resident_bytes()
    tasks, *building_seconds = timed(lambda: SMLMT.from_sentences(text, tokenizer, cache_dir=folder, **SIZES))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _, *opening_seconds = timed(lambda: SMLMT.from_sentences(text, tokenizer, cache_dir=folder, **SIZES))
    drawing_seconds = [
        timed(lambda first=repeat * TASKS_AT_ONCE: [tasks(first + index) for index in range(TASKS_AT_ONCE)])[1:]
        for repeat in range(repeats + 1)
    ][1:]
    return {
        "megabytes": text.stat().st_size / MEGABYTE,
        "building_seconds": [building_seconds],
        "opening_seconds": [opening_seconds],
        "drawing_seconds": drawing_seconds,
        "memory_ratio": (peak_bytes - before_bytes) / text.stat().st_size,
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return a result, and how many seconds of a core and of the clock it took."""
    core, clock = time.process_time(), time.perf_counter()
    result = work()
    return result, time.process_time() - core, time.perf_counter() - clock


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def figures(as_bytes: dict[str, Any], as_subwords: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for found, tokens in ((as_bytes, "bytes"), (as_subwords, "BPE")):
        name, is_main = f"{found['megabytes']:.0f} MB, {tokens}", tokens == "bytes"
        drawn = figure(f"tasks drawn, 5-way 4-shot, {name}", TASKS_AT_ONCE, found["drawing_seconds"], "tasks/s")
        drawn["peer"] = {"name": "SMLMT-PyTorch, as its author states", "value": 1 / PEER_SECONDS}
        drawn["ratio"] = drawn["value"] * PEER_SECONDS
        built = figure(f"index building, {name}", found["megabytes"], found["building_seconds"], "MB/s")
        opened = figure(f"opening again, {name}", 1, found["opening_seconds"], "times/s")
        memory = {
            **built,
            "name": f"memory for building, {name}",
            "value": found["memory_ratio"],
            "unit": "times the text",
        }
        memory |= {"clock_value": None}
        if is_main:
            for line, target in ((drawn, 10_000), (built, 20), (memory, 4)):
                line["target"] = target
                line["holds"] = line["value"] <= target if line is memory else line["value"] >= target
        lines += [drawn, built, memory, opened] if is_main else [drawn, built]
    return lines


def figure(name: str, amount: float, seconds: list[list[float]], unit: str) -> dict[str, Any]:
    """Return the median of some repeats, and half the distance between the quartiles in percent of it."""
    low, middle, high = np.percentile([amount / core for core, _ in seconds], [25, 50, 75])
    return {
        "name": name,
        "value": float(middle),
        "unit": unit,
        "spread_percent": float(50 * (high - low) / middle),
        "clock_value": float(np.median([amount / clock for _, clock in seconds])),
        "peer": None,
        "ratio": None,
        "target": None,
        "holds": True,
    }


if __name__ == "__main__":
    main()
