"""One task, in compiled code: its words, its sentences, and their tokens with the words masked.

The words are drawn one after the other, uniformly among those of the split that have sentences enough and another stem
than those before; then they get the labels 0 to n_way - 1 in a random order. For each word, sentences are drawn
uniformly among all of its split that contain it and show no other word of the task, nor another form of one. Where a
word has too few of those, new words are drawn. Where that has happened many times, as for large tasks of small corpora,
only one word is replaced each time, in turn: the one that had too few sentences, and the one that is in most sentences
and so leaves the others too few.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.episodes.sentence_store import PLACE_BITS
from xenoglot.kernels import Stream, Word, bounded_integer, compiled, open_stream

__all__ = ["MOST_ATTEMPTS", "draw_task"]

STREAM_TASKS = 5  # of random words; its row is the task's index
MOST_ATTEMPTS = 2000
"""So many times words are drawn until there are sentences enough for all of them."""
FRESH_ATTEMPTS = 16
"""So many times all words are drawn anew; then only one, each time."""
MOST_ROUNDS = 8  # of as many tries as sentences are wanted; afterwards all that a word has are looked through
WORD_TRIES = 64
LENGTH_MASK = (1 << PLACE_BITS) - 1
OCCURRENCES_OF_LINE, TOKENS_OF_LINE = 8, 32  # of 64 bytes, which the memory hands out together


@compiled
def draw_task(seed: int, index: int, shape: Any, candidates: Any, words: Any, postings: Any, sentences: Any) -> Any:
    """Draw a task; the arrays are those of `word_index` and `sentence_store`.

    Args:
        seed: Of the split's tasks.
        index: Which task.
        shape: n_way, k_shot, q_query, and the id of MASK.
        candidates: int64 [C], the places in ``task_words`` of the split's words that have sentences enough.
        words: ``task_words`` and ``stems``.
        postings: ``posting_starts`` and ``postings``.
        sentences: ``starts``, ``occurrences`` and ``tokens``.

    Returns:
        The words by label, uint32 [n_way]; the sentences of each, int64 [n_way, k_shot + q_query], none if there is no
        such task; and the ids, lengths, mask positions and labels of support and of query.
    """
    n_way, k_shot, q_query, mask_id = shape
    stream = open_stream(seed, STREAM_TASKS, index)
    chosen_words, chosen = _choose(stream, n_way, k_shot + q_query, candidates, words, postings, sentences)
    _fetch_tokens(chosen, sentences)
    support = _masked_rows(stream, chosen_words, chosen[:, :k_shot], mask_id, sentences)
    query = _masked_rows(stream, chosen_words, chosen[:, k_shot:], mask_id, sentences)
    return chosen_words, chosen, support, query


@compiled
def _choose(
    stream: Stream, n_way: int, n_sentences: int, candidates: Any, words: Any, postings: Any, sentences: Any
) -> Any:
    """Choose words by label, and sentences for each; none if that fails again and again."""
    places, shown = np.empty(n_way, np.int64), np.empty(n_way, np.int32)
    chosen = np.empty((n_way, n_sentences), np.int64)
    has_words, label = False, 0
    for attempt in range(MOST_ATTEMPTS):
        if attempt < FRESH_ATTEMPTS or not has_words:
            has_words = _draw_words(stream, candidates, words, places, shown)
        else:
            sizes = postings[0][places + 1] - postings[0][places]
            worst = label if attempt % 2 else np.argmax(sizes)
            has_words = _replace_word(stream, candidates, words, places, shown, worst)
        if not has_words:
            continue
        label = 0
        while label < n_way and _draw_sentences(
            stream, places[label], shown, words, postings, sentences, chosen[label]
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
    for _ in range(WORD_TRIES * n_way):
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
def _replace_word(stream: Stream, candidates: Any, words: Any, places: Any, shown: Any, label: Any) -> Any:
    """Draw another word for a label, and tell whether there was one whose stem none of the task's words has."""
    task_words, stems = words
    old_stem = stems[task_words[places[label]]]
    for _ in range(WORD_TRIES):
        place = candidates[bounded_integer(stream, len(candidates))]
        stem = stems[task_words[place]]
        if not _contains(shown, stem):
            shown[shown == old_stem] = stem
            places[label] = place
            return True
    return False


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
def _is_free(sentence: Word, word: Word, taken: Any, shown: Any, stems: Any, sentences: Any) -> Any:
    """Tell whether a sentence is not taken, and has no word, but this one, with a stem of the task's words."""
    if _contains(taken, sentence):
        return False
    starts, occurrences, _ = sentences
    for place in range(starts[sentence, 1], starts[sentence + 1, 1]):
        if occurrences[place, 0] != word and _contains(shown, stems[occurrences[place, 0]]):
            return False
    return True


@compiled
def _draw_sentences(
    stream: Stream, place: int, shown: Any, words: Any, postings: Any, sentences: Any, chosen: Any
) -> Any:
    """Draw different sentences of a word that show nothing of the task, and tell whether there were enough."""
    (task_words, stems), (posting_starts, posted) = words, postings
    word, own = task_words[place], posted[posting_starts[place] : posting_starts[place + 1]]
    n_wanted, n_chosen = len(chosen), 0
    some = np.empty(n_wanted, np.int64)
    for _ in range(MOST_ROUNDS):
        for number in range(n_wanted):
            some[number] = own[bounded_integer(stream, len(own))]
        _fetch_occurrences(some, sentences)
        for sentence in some:
            if n_chosen < n_wanted and _is_free(sentence, word, chosen[:n_chosen], shown, stems, sentences):
                chosen[n_chosen] = sentence
                n_chosen += 1
        if n_chosen == n_wanted:
            return True
    rest, n_rest = np.empty(len(own), np.int64), 0
    for sentence in own:
        if _is_free(np.int64(sentence), word, chosen[:n_chosen], shown, stems, sentences):
            rest[n_rest] = sentence
            n_rest += 1
    _shuffle(stream, rest[:n_rest])
    n_more = min(n_rest, n_wanted - n_chosen)
    chosen[n_chosen : n_chosen + n_more] = rest[:n_more]
    return n_chosen + n_more == n_wanted


@compiled
def _fetch_occurrences(some: Any, sentences: Any) -> Any:
    """Read a little of each sentence: the memory answers many questions at once much faster than in turn."""
    starts, occurrences, _ = sentences
    total = np.int64(0)
    for sentence in some:
        total += starts[sentence, 1]
    for sentence in some:
        for place in range(starts[sentence, 1], starts[sentence + 1, 1], OCCURRENCES_OF_LINE):
            total += np.int64(occurrences[place, 0])
    return total


@compiled
def _fetch_tokens(chosen: Any, sentences: Any) -> Any:
    """Do the same for the tokens."""
    starts, _, tokens = sentences
    total = np.int64(0)
    for sentence in chosen.flat:
        for place in range(starts[sentence, 0], starts[sentence + 1, 0], TOKENS_OF_LINE):
            total += np.int64(tokens[place])
    return total


@compiled
def _masked_rows(stream: Stream, words: Any, chosen: Any, mask_id: int, sentences: Any) -> Any:
    """Return the ids, padded with 0, the lengths, the places of the first MASK and the labels of some sentences."""
    n_way, n_shots = chosen.shape
    labels, lengths = np.empty(n_way * n_shots, np.int64), np.empty(n_way * n_shots, np.int64)
    positions, longest = np.empty_like(lengths), np.int64(0)
    for shot in range(n_shots):
        of_shot = labels[shot * n_way : (shot + 1) * n_way]
        of_shot[:] = np.arange(n_way)
        _shuffle(stream, of_shot)
    for row in range(len(labels)):
        lengths[row] = _masked_length(chosen[labels[row], row // n_way], words[labels[row]], sentences)
        longest = max(longest, lengths[row])
    token_ids = np.zeros((len(labels), longest), np.int64)
    for row in range(len(labels)):
        sentence, word = chosen[labels[row], row // n_way], words[labels[row]]
        positions[row] = _mask(sentence, word, mask_id, sentences, token_ids[row])
    return token_ids, lengths, positions, labels


@compiled
def _masked_length(sentence: Word, word: Word, sentences: Any) -> Any:
    """Return how many tokens a sentence has with one MASK for each occurrence of a word."""
    starts, occurrences, _ = sentences
    length, end = starts[sentence + 1, 0] - starts[sentence, 0], np.int64(0)
    for place in range(starts[sentence, 1], starts[sentence + 1, 1]):
        if occurrences[place, 0] == word:
            begin = np.int64(occurrences[place, 1] >> PLACE_BITS)
            last = begin + np.int64(occurrences[place, 1] & LENGTH_MASK)
            length += 1 - (last - max(begin, end))  # words may share a token
            end = last
    return length


@compiled
def _mask(sentence: Word, word: Word, mask_id: int, sentences: Any, row: Any) -> Any:
    """Write a sentence's tokens, one MASK for each occurrence of a word, and return the place of the first."""
    starts, occurrences, tokens = sentences
    source, last, n_written, position = starts[sentence, 0], starts[sentence + 1, 0], 0, -1
    for place in range(starts[sentence, 1], starts[sentence + 1, 1]):
        if occurrences[place, 0] != word:
            continue
        begin = starts[sentence, 0] + np.int64(occurrences[place, 1] >> PLACE_BITS)
        while source < begin:
            row[n_written] = tokens[source]
            n_written, source = n_written + 1, source + 1
        row[n_written] = mask_id
        position = n_written if position < 0 else position
        n_written += 1
        source = max(source, begin + np.int64(occurrences[place, 1] & LENGTH_MASK))
    while source < last:
        row[n_written] = tokens[source]
        n_written, source = n_written + 1, source + 1
    return position
