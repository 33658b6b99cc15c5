"""One task, in compiled code: its words, its sentences, and their tokens with the words masked.

The words are drawn one after the other, uniformly among those of the split that have sentences enough and another stem
than those before; then they get the labels 0 to n_way - 1 in a random order. For each word, sentences are drawn
uniformly among all of its split that contain it and show no other word of the task, nor another form of one. Where a
word has too few of those, new words are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels import Stream, Word, bounded_integer, compiled, open_stream

__all__ = ["MOST_ATTEMPTS", "draw_task"]

STREAM_TASKS = 5  # of random words; its row is the task's index
MOST_ATTEMPTS = 2000
"""So many times words are drawn until there are sentences enough for all of them."""
MOST_TRIES = 8  # at random, for each sentence that is wanted; afterwards all that a word has are looked through
FIXED_TRIES = 32


@compiled
def draw_task(
    seed: int, index: int, shape: Any, candidates: Any, words: Any, postings: Any, occurrences: Any, tokens: Any
) -> Any:
    """Draw a task; the arrays are those of `word_index` and `sentence_store`.

    Args:
        seed: Of the split's tasks.
        index: Which task.
        shape: n_way, k_shot, q_query, and the id of MASK.
        candidates: int64 [C], the places in ``task_words`` of the split's words that have sentences enough.
        words: ``task_words`` and ``stems``.
        postings: ``posting_starts`` and ``postings``.
        occurrences: ``occurrence_starts``, ``_words``, ``_begins`` and ``_lengths``.
        tokens: ``sentence_starts`` and ``tokens``.

    Returns:
        The words by label, uint32 [n_way]; the sentences of each, int64 [n_way, k_shot + q_query], none if there is no
        such task; and the ids, lengths, mask positions and labels of support and of query.
    """
    n_way, k_shot, q_query, mask_id = shape
    stream = open_stream(seed, STREAM_TASKS, index)
    chosen_words, chosen = _choose(stream, n_way, k_shot + q_query, candidates, words, postings, occurrences)
    support = _masked_rows(stream, chosen_words, chosen[:, :k_shot], mask_id, occurrences, tokens)
    query = _masked_rows(stream, chosen_words, chosen[:, k_shot:], mask_id, occurrences, tokens)
    return chosen_words, chosen, support, query


@compiled
def _choose(
    stream: Stream, n_way: int, n_sentences: int, candidates: Any, words: Any, postings: Any, occurrences: Any
) -> Any:
    """Choose words by label, and sentences for each; none if that fails again and again."""
    places, shown = np.empty(n_way, np.int64), np.empty(n_way, np.int32)
    chosen = np.empty((n_way, n_sentences), np.int64)
    for _ in range(MOST_ATTEMPTS):
        if not _draw_words(stream, candidates, words, places, shown):
            continue
        label = 0
        while label < n_way and _draw_sentences(
            stream, places[label], shown, words, postings, occurrences, chosen[label]
        ):
            label += 1
        if label == n_way:
            return words[0][places], chosen
    return np.empty(0, np.uint32), chosen[:0]


@compiled
def _draw_words(stream: Stream, candidates: Any, words: Any, places: Any, shown: Any) -> Any:
    """Draw words with different stems, in a random order, and tell whether there were enough of them."""
    task_words, stems = words
    n_way, n_drawn = len(places), 0
    for _ in range(MOST_TRIES * n_way + FIXED_TRIES):
        place = candidates[bounded_integer(stream, len(candidates))]
        stem = stems[task_words[place]]
        if not _contains(shown[:n_drawn], stem):
            places[n_drawn], shown[n_drawn] = place, stem
            n_drawn += 1
            if n_drawn == n_way:
                break
    _shuffle(stream, places[:n_drawn])
    return n_drawn == n_way


@compiled
def _shuffle(stream: Stream, values: Any) -> None:
    """Put values into a random order (Fisher and Yates)."""
    for place in range(len(values) - 1, 0, -1):
        other = bounded_integer(stream, place + 1)
        values[place], values[other] = values[other], values[place]


@compiled
def _contains(values: Any, wanted: int) -> Any:
    for value in values:  # noqa: SIM110 - the compiler knows no generators
        if value == wanted:
            return True
    return False


@compiled
def _is_free(sentence: Word, word: Word, taken: Any, shown: Any, stems: Any, occurrences: Any) -> Any:
    """Tell whether a sentence is not taken, and has no word, but this one, with a stem of the task's words."""
    if _contains(taken, sentence):
        return False
    starts, words, _, _ = occurrences
    for place in range(starts[sentence], starts[sentence + 1]):
        if words[place] != word and _contains(shown, stems[words[place]]):
            return False
    return True


@compiled
def _draw_sentences(
    stream: Stream, place: int, shown: Any, words: Any, postings: Any, occurrences: Any, chosen: Any
) -> Any:
    """Draw different sentences of a word that show nothing of the task, and tell whether there were enough."""
    (task_words, stems), (starts, sentences) = words, postings
    word, own = task_words[place], sentences[starts[place] : starts[place + 1]]
    n_chosen = 0
    for _ in range(MOST_TRIES * len(chosen) + FIXED_TRIES):
        sentence = np.int64(own[bounded_integer(stream, len(own))])
        if _is_free(sentence, word, chosen[:n_chosen], shown, stems, occurrences):
            chosen[n_chosen] = sentence
            n_chosen += 1
            if n_chosen == len(chosen):
                return True
    rest, n_rest = np.empty(len(own), np.int64), 0
    for sentence in own:
        if _is_free(np.int64(sentence), word, chosen[:n_chosen], shown, stems, occurrences):
            rest[n_rest] = sentence
            n_rest += 1
    _shuffle(stream, rest[:n_rest])
    n_more = min(n_rest, len(chosen) - n_chosen)
    chosen[n_chosen : n_chosen + n_more] = rest[:n_more]
    return n_chosen + n_more == len(chosen)


@compiled
def _masked_rows(stream: Stream, words: Any, chosen: Any, mask_id: int, occurrences: Any, tokens: Any) -> Any:
    """Return the ids, padded with 0, the lengths, the places of the first MASK and the labels of some sentences."""
    n_way, n_shots = chosen.shape
    n_rows, starts = n_way * n_shots, tokens[0]
    labels, lengths, positions = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    n_most = 0
    for sentence in chosen.flat:
        n_most = max(n_most, starts[sentence + 1] - starts[sentence])
    scratch = np.zeros((n_rows, n_most), np.int64)
    longest = 0
    for shot in range(n_shots):
        first = shot * n_way
        for label in range(n_way):
            labels[first + label] = label
        _shuffle(stream, labels[first : first + n_way])
        for row in range(first, first + n_way):
            label = labels[row]
            sentence = chosen[label, shot]
            lengths[row], positions[row] = _mask(sentence, words[label], mask_id, occurrences, tokens, scratch[row])
            longest = max(longest, lengths[row])
    return scratch[:, :longest].copy(), lengths, positions, labels


@compiled
def _mask(sentence: Word, word: Word, mask_id: int, occurrences: Any, tokens: Any, row: Any) -> Any:
    """Write a sentence's tokens, one MASK for each occurrence of a word; return their number and the first's place."""
    (starts, words, begins, lengths), (sentence_starts, ids) = occurrences, tokens
    source = start = sentence_starts[sentence]
    last, n_written, position = sentence_starts[sentence + 1], 0, -1
    for place in range(starts[sentence], starts[sentence + 1]):
        if words[place] != word:
            continue
        while source < start + begins[place]:
            row[n_written] = ids[source]
            n_written, source = n_written + 1, source + 1
        row[n_written] = mask_id
        position = n_written if position < 0 else position
        n_written += 1
        source = max(source, start + begins[place] + lengths[place])
    while source < last:
        row[n_written] = ids[source]
        n_written, source = n_written + 1, source + 1
    return np.int64(n_written), np.int64(position)
