"""Your own sentences become tasks: which of these words was masked? `python examples/own_sentences.py book.txt`."""

import sys

from xenoglot.corpus.subwords import train_bpe
from xenoglot.corpus.text_files import TextFiles
from xenoglot.episodes.smlmt import SMLMT

text = TextFiles(sys.argv[1])  # a sentence a line, running text, JSON lines; SMLMT also takes a list
tokenizer = train_bpe(text.documents(), vocab_size=4096)  # or "bytes", or the tokenizer.json of a model
tasks = SMLMT.from_sentences(text, tokenizer, n_way=3, k_shot=2, q_query=1, min_token_freq=20)
episode = tasks(0, "train")  # a function of (seed, split, index)
print("What was it:", ", ".join(f"{label} {word}" for label, word in enumerate(tasks.words(0, "train"))))
for name, examples in (("support", episode.support), ("query", episode.query)):
    for ids, length, label in zip(examples.token_ids_NT, examples.lengths_N, examples.labels_N, strict=True):
        pieces = [tokenizer.token_bytes(token) or b" [MASK]" for token in ids[:length].tolist()]
        print(f"{name} {label}:", b"".join(pieces).decode())
