"""Counts over 10,000 tasks from your own text: labels uniform, nothing in both support and query, no rule broken.

```
python examples/check_smlmt.py book.txt another.txt
```

A task is read as a model reads it, as ids, and turned back into text; words and stems are looked for there again.
"""

import argparse
import collections
import re
import sys

import numpy as np
from scipy.stats import chi2
from Stemmer import Stemmer

from xenoglot.episodes.base import SPLITS
from xenoglot.episodes.characters import folded
from xenoglot.episodes.smlmt import SMLMT

RUNS = re.compile(r"\w(?:\w|(?<=[^\W\d_])'(?=[^\W\d_]))*")


def main() -> int:
    """Check every text, and return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", help="text files")
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of all splits together")
    parser.add_argument("--n_way", type=int, default=5)
    parser.add_argument("--k_shot", type=int, default=4)
    parser.add_argument("--q_query", type=int, default=8)
    given = parser.parse_args()
    n_faults = 0
    for text in given.texts:
        tasks = SMLMT.from_sentences(text, "bytes", n_way=given.n_way, k_shot=given.k_shot, q_query=given.q_query)
        print(f"{text}\n  {about(tasks)}")
        n_faults += checked(tasks, given.tasks)
    return min(n_faults, 1)


def about(tasks: SMLMT) -> str:
    """Say what became of the sentences."""
    counts = tasks.counts
    per_split = " / ".join(f"{number:,}" for number in counts["n_usable_sentences"])
    return (
        f"{counts['n_found']:,} sentences ({counts['splitting']}), {counts['n_repeated']:,} repeated, "
        f"{counts['n_too_few_words']:,} of fewer than two words, {counts['n_too_long_sentences']:,} too long; "
        f"{per_split} for training, validation and test"
    )


def checked(tasks: SMLMT, n_tasks: int) -> int:
    """Draw tasks of every split, print what was counted, and return how many faults there were."""
    faults: collections.Counter[str] = collections.Counter()
    rows = np.zeros((tasks.n_way, tasks.n_way), np.int64)  # how often the i-th word by alphabet has label j
    seen: dict[str, tuple[set[str], set[str]]] = {}
    for place, split in enumerate(SPLITS):
        words, texts = seen.setdefault(split, (set(), set()))
        for index in range(n_tasks * place // len(SPLITS), n_tasks * (place + 1) // len(SPLITS)):
            labels = tasks.words(index, split)
            for label, word in enumerate(labels):
                rows[sorted(labels).index(word), label] += 1
            words.update(STEMMER.stemWords(list(labels)))
            texts.update(read(tasks, index, split, faults))
        print(f"  {split}: {len(words):,} stems and {len(texts):,} sentences were used")
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        faults["words of two splits"] += len(seen[one][0] & seen[other][0])
        faults["sentences of two splits"] += len(seen[one][1] & seen[other][1])
    # Every task adds a permutation matrix: hence the factor, and (n_way - 1)^2 degrees of freedom.
    statistic = float(((rows - rows.mean()) ** 2 / rows.mean()).sum()) * (tasks.n_way - 1) / tasks.n_way
    print(f"  labels of the words, by alphabet: {rows.tolist()}")
    print(f"  uniform with p = {chi2.sf(statistic, (tasks.n_way - 1) ** 2):.3f} (chi-square)")
    print("  faults: " + ", ".join(f"{name} {number}" for name, number in sorted(faults.items())))
    return sum(faults.values())


STEMMER = Stemmer("english")


def read(tasks: SMLMT, index: int, split: str, faults: collections.Counter[str]) -> set[str]:
    """Check one task, and return its sentences as they were."""
    episode, labels = tasks(index, split), tasks.words(index, split)
    stems = set(STEMMER.stemWords(list(labels)))
    faults["words of one stem"] += len(stems) != tasks.n_way
    texts: list[str] = []
    for examples in (episode.support, episode.query):
        ids_of, lengths = examples.token_ids_NT.tolist(), examples.lengths_N.tolist()
        faults["labels that are not balanced"] += set(np.bincount(examples.labels_N)) != {len(ids_of) // tasks.n_way}
        for ids, length, label in zip(ids_of, lengths, examples.labels_N.tolist(), strict=True):
            text = bytes(0 if token == 0 else token - 1 for token in ids[:length]).decode()
            faults["sentences without MASK"] += "\0" not in text
            visible = [run for run in RUNS.findall(folded(text)) if not re.search(r"[\d_]", run)]
            faults["sentences that show a word of the task"] += bool(set(visible) & set(labels))
            faults["sentences that show a form of one"] += bool(set(STEMMER.stemWords(visible)) & stems)
            texts.append(" ".join(RUNS.findall(folded(text.replace("\0", labels[label])))))
    faults["sentences used twice"] += len(texts) - len(set(texts))
    return set(texts)


if __name__ == "__main__":
    sys.exit(main())
