r"""Named entities in IOB2 files, in Universal NER's form, read strictly: what is wrong is named by its line.

A word is a line of three columns, divided by tabs: its number in the sentence, the word, and its tag. In the released
files two more follow, an empty one and who annotated; they are not read. Lines that begin with ``#`` are comments, and
an empty line ends a sentence:

    # sent_id = answers-20070404104007AAY1Chs_ans-0001
    # text = where in tampa bay ?
    1   where   O
    2   in      O
    3   tampa   B-LOC
    4   bay     I-LOC
    5   ?       O

``B-`` begins an entity of a type, ``I-`` goes on with one of the same type, ``O`` is outside.

Source: Mayhew et al., "Universal NER: A Gold-Standard Multilingual Named Entity Recognition Benchmark", 2024 (arXiv
2311.09122). As is usual there, entities of type OTH are read as ``O``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenoglot.errors import DataError, OptionError
from xenoglot.rng import generator
from xenoglot.storage.files import reason_of

__all__ = ["TaggedSentence", "TaggedSplits", "read_iob2", "split_sentences"]

OUTSIDE = "O"
IGNORED_TYPES = ("OTH",)
COLUMNS = range(3, 6)
TAG = re.compile(r"O|[BI]-[^\s-]\S*")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FEWEST_SENTENCES = 3


@dataclass(frozen=True, kw_only=True)
class TaggedSentence:
    """A sentence whose words have tags.

    Attributes:
        where: The file, and the line of the first word.
        words: As they stand in the file.
        tags: Of each word: ``O``, ``B-LOC``, ``I-LOC``, ...
    """

    where: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaggedSplits:
    """Sentences to learn from, to choose by, and to be judged by.

    Args:
        train: Gradients come from these.
        dev: These say when to stop, and which rate is best.
        test: Measured once.

    Raises:
        DataError: If one of them has no entity, or a test entity's type is none of training's.
    """

    train: Sequence[TaggedSentence]
    dev: Sequence[TaggedSentence]
    test: Sequence[TaggedSentence]

    def __post_init__(self) -> None:
        learned = _types(self.train)
        for name in ("train", "dev", "test"):
            sentences: Sequence[TaggedSentence] = getattr(self, name)
            if not (types := _types(sentences)):
                raise DataError(
                    f"{name}: got {len(sentences):,} sentences without an entity; allowed: at least one, to be found "
                    "or missed. Give more sentences."
                )
            if unknown := types - learned:
                raise DataError(
                    f"{name}: got entities of type {', '.join(sorted(unknown))}; allowed: the types of train, "
                    f"{', '.join(sorted(learned))}. Leave them out, or let them be learned too."
                )

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities, sorted."""
        return tuple(sorted(_types(self.train)))


def read_iob2(path: str | Path, *, ignored_types: Collection[str] = IGNORED_TYPES) -> list[TaggedSentence]:
    r"""Read the sentences of a file, as UTF-8; a byte-order mark and line ends of Windows are understood.

    Args:
        path: The file.
        ignored_types: Entities that are read as ``O``.

    Raises:
        DataError: Naming the line, if it has other columns, a number that does not count on, a tag that is none, an
            ``I-`` that nothing of its type comes before, a comment within a sentence, or bytes that are not UTF-8.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "dev.iob2"
        >>> _ = path.write_text("# text = In Rome\n1\tIn\tO\n2\tRome\tB-LOC\n\n")
        >>> [(sentence.words, sentence.tags) for sentence in read_iob2(path)]
        [(('In', 'Rome'), ('O', 'B-LOC'))]
        >>> _ = path.write_text("1\tIn\tO\n2\tRome\tI-LOC\n")
        >>> read_iob2(path)
        Traceback (most recent call last):
        xenoglot.errors.DataError: ...dev.iob2, line 2: got I-LOC after O; allowed: after B-LOC or I-LOC. ...
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {reason_of(error)}. Name an IOB2 file.") from error
    sentences, held = list[TaggedSentence](), list[tuple[str, str]]()
    for number, line in _lines(path, content.removeprefix(BYTE_ORDER_MARK)):
        where = f"{path}, line {number}"
        if not line and held:
            sentences.append(_sentence(f"{path}, line {number - len(held)}", held, ignored_types))
            held = []
        elif line.startswith("#"):
            if held:
                raise DataError(f"{where}: got a comment within a sentence. An empty line must end a sentence.")
        elif line:
            held.append(_word(where, line, held))
    if not sentences:
        raise DataError(f"{path}: got no sentences; allowed: at least one. Name an IOB2 file.")
    return sentences


def split_sentences(
    sentences: Sequence[TaggedSentence], *, seed: int, dev_share: float = 0.2, test_share: float = 0.2
) -> TaggedSplits:
    """Split sentences at random; all that have the same words go to the same part, so that nothing is learned by heart.

    Args:
        sentences: Those of one file.
        seed: What the split is drawn from.
        dev_share: Of the different sentences.
        test_share: Of the different sentences.

    Raises:
        OptionError: If nothing is left to learn from.
        DataError: If there are too few sentences.
    """
    if not (dev_share > 0 and test_share > 0 and dev_share + test_share < 1):
        raise OptionError("dev_share", dev_share, f"above 0, and below 1 together with test_share, {test_share}")
    different = list(dict.fromkeys(sentence.words for sentence in sentences))
    if len(different) < FEWEST_SENTENCES:
        raise DataError(f"got {len(different)} different sentences; allowed: at least {FEWEST_SENTENCES} to split.")
    n_test = max(1, round(test_share * len(different)))
    n_dev = max(1, min(round(dev_share * len(different)), len(different) - n_test - 1))
    order = generator(seed, "tagging", "split").permutation(len(different)).tolist()
    part_of = {
        different[place]: "test" if rank < n_test else "dev" if rank < n_test + n_dev else "train"
        for rank, place in enumerate(order)
    }
    parts: dict[str, list[TaggedSentence]] = {"train": [], "dev": [], "test": []}
    for sentence in sentences:
        parts[part_of[sentence.words]].append(sentence)
    return TaggedSplits(**parts)


def _lines(path: str | Path, content: bytes) -> Iterator[tuple[int, str]]:
    """Go through numbered lines, and one empty line more: lines end with a line feed and with nothing else."""
    number = 0
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            yield number, line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}: byte {error.start} is {line[error.start]:#04x}, which is not UTF-8. "
                "Convert the file."
            ) from error
    yield number + 1, ""


def _word(where: str, line: str, held: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Read a word and its tag, and check that they may follow those before."""
    columns = line.split("\t")
    if len(columns) not in COLUMNS:
        raise DataError(
            f"{where}: got {len(columns)} columns; allowed: number, word, tag, divided by tabs, and two more at most."
        )
    number, word, tag = columns[:3]
    if number != str(len(held) + 1):
        raise DataError(f"{where}: got word number {number!r}; allowed: {len(held) + 1}, the next of its sentence.")
    if not word.strip():
        raise DataError(f"{where}: got an empty word; allowed: at least one letter.")
    if not TAG.fullmatch(tag):
        raise DataError(f"{where}: got tag {tag!r}; allowed: O, or B- or I- and a type, such as B-LOC.")
    before = held[-1][1] if held else "the beginning of the sentence"
    if tag.startswith("I-") and before[1:] != tag[1:]:
        kind = tag[2:]
        raise DataError(
            f"{where}: got {tag} after {before}; allowed: after B-{kind} or I-{kind}. An entity begins with B-{kind}."
        )
    return word, tag


def _sentence(where: str, held: Sequence[tuple[str, str]], ignored_types: Collection[str]) -> TaggedSentence:
    words, tags = zip(*held, strict=True)
    kept = tuple(OUTSIDE if tag[2:] in ignored_types else tag for tag in tags)
    return TaggedSentence(where=where, words=words, tags=kept)


def _types(sentences: Sequence[TaggedSentence]) -> set[str]:
    return {tag[2:] for sentence in sentences for tag in sentence.tags if tag != OUTSIDE}
