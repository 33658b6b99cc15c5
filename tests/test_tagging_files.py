"""IOB2 files: what is right is read as it was written, what is wrong is named by its line; splits share no sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.errors import DataError, OptionError
from xenoglot.evaluations.tagging_files import TaggedSentence, TaggedSplits, read_iob2, split_sentences

LINE = "1\tIn\tO\n2\tRome\tB-LOC\n\n"
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), min_size=1, max_size=6).filter(str.strip)


def sentence(words: str, tags: str) -> TaggedSentence:
    return TaggedSentence(where="here", words=tuple(words.split()), tags=tuple(tags.split()))


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "given.iob2"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@st.composite
def tagged(draw: st.DrawFn) -> list[tuple[str, str]]:
    """A sentence of entities and words outside, as one writes them down."""
    lines: list[tuple[str, str]] = []
    for kind in draw(st.lists(st.sampled_from(["", "LOC", "PER"]), min_size=1, max_size=4)):
        words = draw(st.lists(WORDS, min_size=1, max_size=3))
        tags = [f"{'I' if place else 'B'}-{kind}" if kind else "O" for place in range(len(words))]
        lines += zip(words, tags, strict=True)
    return lines


@settings(deadline=None, max_examples=40)
@given(st.lists(tagged(), min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\t-\tann"]))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str]]], end: str, more: str
) -> None:
    lines = []
    for number, lines_of_one in enumerate(sentences):
        lines += [f"# sent_id = {number}", "# text = whatever", ""][: 2 + number % 2]
        lines += [f"{place}\t{word}\t{tag}{more}" for place, (word, tag) in enumerate(lines_of_one, 1)] + [""]
    path = written(tmp_path_factory.mktemp("iob2"), end.join(lines))
    assert [list(zip(read.words, read.tags, strict=True)) for read in read_iob2(path)] == sentences


def test_marks_of_other_systems_and_missing_ends_are_understood(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf# sent_id = 1\r\n1\tIn\tO\r\n2\tRome\tB-LOC\r\n\r\n\r\n\r\n1\ta b\tO\r\n2\t\xe2\x80\xa8x\tO"
    first, second = read_iob2(written(tmp_path, content))
    assert (first.words, first.tags) == (("In", "Rome"), ("O", "B-LOC"))
    assert second.words == ("a b", "\u2028x")  # neither a blank nor a separator of lines divides words here
    assert (first.where.rpartition(", ")[2], second.where.rpartition(", ")[2]) == ("line 2", "line 7")


def test_other_entities_are_outside_as_in_universal_ner(tmp_path: Path) -> None:
    path = written(tmp_path, "1\tan\tO\n2\tiPad\tB-OTH\n3\tmini\tI-OTH\n4\tBo\tB-PER\n")
    assert read_iob2(path)[0].tags == ("O", "O", "O", "B-PER")
    assert read_iob2(path, ignored_types=())[0].tags == ("O", "B-OTH", "I-OTH", "B-PER")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (LINE + "1\tRome\n", "line 4: got 2 columns"),
        (LINE + "1 Rome B-LOC\n", "line 4: got 1 columns"),
        (LINE + "1\tRome\tB-LOC\t-\tann\tmore\n", "line 4: got 6 columns"),
        (LINE + "   \n", "line 4: got 1 columns"),
        (LINE + "1\tRome\tI-LOC\n", "line 4: got I-LOC after the beginning of the sentence; allowed: after B-LOC or"),
        ("1\tIn\tO\n2\tRome\tI-LOC\n", "line 2: got I-LOC after O"),
        ("1\tBo\tB-PER\n2\tRome\tI-LOC\n", "line 2: got I-LOC after B-PER"),
        ("1\tBo\tX-PER\n", "line 1: got tag 'X-PER'; allowed: O, or B- or I- and a type"),
        ("1\tBo\tB-\n", "line 1: got tag 'B-'"),
        ("1\tBo\tb-PER\n", "line 1: got tag 'b-PER'"),
        ("1\tBo\tO \n", "line 1: got tag 'O '"),
        ("1\tBo\t\n", "line 1: got tag ''"),
        ("1\t \tO\n", "line 1: got an empty word"),
        ("1\tIn\tO\n3\tRome\tO\n", "line 2: got word number '3'; allowed: 2"),
        ("1\tIn\tO\n1\tRome\tO\n", "line 2: got word number '1'; allowed: 2"),
        ("1\tIn\tO\n# text = Rome\n1\tRome\tO\n", "line 2: got a comment within a sentence"),
        (LINE.encode() + b"1\tR\xf6me\tO\n", "line 4: byte 3 is 0xf6, which is not UTF-8"),
        (LINE.encode("utf-16"), "line 1: byte 0 is 0xff"),
        ("", "got no sentences"),
        ("# text = nothing\n\n", "got no sentences"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_iob2(path)
    assert str(caught.value).startswith(str(path))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["missing.iob2", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_iob2(tmp_path / name)


def test_a_split_keeps_all_and_shares_no_words() -> None:
    sentences = [sentence(f"see Rome {number % 40}", "O B-LOC O") for number in range(100)]
    splits = split_sentences(sentences, seed=3)
    parts = [splits.train, splits.dev, splits.test]
    assert sorted(each.words for part in parts for each in part) == sorted(each.words for each in sentences)
    different = [{each.words for each in part} for part in parts]
    assert [len(words) for words in different] == [24, 8, 8]
    assert len(set.union(*different)) == 40
    assert split_sentences(sentences, seed=3) == splits
    assert split_sentences(sentences, seed=4) != splits


def test_what_cannot_be_split_or_judged_is_refused() -> None:
    one, other = sentence("in Rome", "O B-LOC"), sentence("nothing here", "O O")
    with pytest.raises(DataError, match="got 2 different sentences; allowed: at least 3"):
        split_sentences([one, other, one], seed=0)
    with pytest.raises(OptionError, match=r"dev_share: got 0.7"):
        split_sentences([one] * 9, seed=0, dev_share=0.7, test_share=0.3)
    with pytest.raises(DataError, match="dev: got 1 sentences without an entity"):
        TaggedSplits(train=[one], dev=[other], test=[one])
    with pytest.raises(DataError, match="test: got entities of type PER; allowed: the types of train, LOC"):
        TaggedSplits(train=[one], dev=[one], test=[sentence("Bo", "B-PER")])
