"""What a configuration says is learned: the rows of training, and what the model is measured on, which never meet."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from xenoglot.adaptation import MetaLearner
from xenoglot.adaptation.selection import HEAD
from xenoglot.assembly.tasks import language_tasks, sentence_tasks
from xenoglot.batches import BatchSource, SampleBatches, TextBatches
from xenoglot.config import DataConfig, RunConfig
from xenoglot.corpus.base import Corpus
from xenoglot.corpus.columns import open_dataset
from xenoglot.corpus.text_files import TextFiles
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.dynamics_rows import DynamicsRows, rows_of_corpus, rows_of_held_out, rows_of_languages
from xenoglot.episodes.base import EpisodeSource
from xenoglot.episodes.batches import Branches, HybridBatches, TaskSource
from xenoglot.errors import DataError
from xenoglot.evaluations.base import Evaluation
from xenoglot.evaluations.few_shot import STEPS, FewShot
from xenoglot.evaluations.held_out_samples import HeldOutSamples
from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
from xenoglot.evaluations.perplexity import DomainPerplexity, open_domains
from xenoglot.language_batches import LanguageBatches, Stage
from xenoglot.language_rows import LanguageRows
from xenoglot.languages import Family
from xenoglot.rng import derive
from xenoglot.samples import StoredSamples
from xenoglot.text import Text, read_text

__all__ = ["LearningData", "few_shot_evaluations", "open_data"]

TOKENS_FOLDER = ".tokens"
"""Where tokens are kept among the runs; hidden, since it is no run."""
N_TASKS, N_SLOW_TASKS = 32, 8
"""Held-out tasks of an evaluation; where more than a head adapts, every step encodes all sentences anew."""


@dataclass(frozen=True, kw_only=True)
class LearningData:
    """What training reads and what the model is measured on.

    Attributes:
        batches: The rows of each step.
        evaluations: What the model is measured on.
        tasks: What is adapted to, if that is learned.
        branches: Which steps are of tasks, if some are.
        files: A tokenizer, as the files that belong into a model's folder.
        dynamics_rows: What layers are looked at on, the same at every step, if they are.
    """

    batches: BatchSource
    evaluations: Sequence[Evaluation]
    tasks: TaskSource | None = None
    branches: Branches | None = None
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    dynamics_rows: DynamicsRows | None = None


def open_data(config: RunConfig) -> LearningData:
    """Open what is learned; a text is tokenized, once, and so are the sentences that tasks are made of.

    Raises:
        DataError: If a file cannot be used.
    """
    seed = derive(config.training.seed, "train")
    if config.languages is not None:
        return _languages(config, config.languages, seed)
    cache_dir = config.data.cache_dir or Path(config.checkpointing.runs_dir) / TOKENS_FOLDER
    if config.data.samples is not None:
        return _samples(config, config.data.samples, cache_dir, seed)
    return _text(config, cache_dir, seed)


def _text(config: RunConfig, cache_dir: str | Path, seed: int) -> LearningData:
    text = read_text(
        _corpus(config.data),
        length=config.model.max_seq_len,
        cache_dir=cache_dir,
        tokenizer=config.data.tokenizer.name,
        vocab_size=config.data.tokenizer.vocab_size,
    )
    batches = TextBatches(text=text, batch_size=config.data.dataloader.batch_size, seed=seed)
    evaluations = [HeldOutText(text=text), *_by_domain(config, text.tokenizer, text.n_tokens)]
    data = LearningData(
        batches=batches,
        evaluations=evaluations,
        files=batches.tokenizer_files(),
        dynamics_rows=_dynamics_rows(config, text.n_tokens, held_out=text, tokenizer=text.tokenizer),
    )
    return _with_tasks(config, data, sentence_tasks(config, text, cache_dir)) if config.smlmt.enabled else data


def _with_tasks(config: RunConfig, data: LearningData, tasks: TaskSource) -> LearningData:
    seed = config.training.seed
    branches = Branches(hybrid_ratio=config.smlmt.hybrid_ratio, seed=derive(seed, "branches"))
    batches = HybridBatches(
        tokens=data.batches,
        tasks=tasks,
        branches=branches,
        tasks_per_step=config.smlmt.tasks_per_step,
        seed=derive(seed, "tasks"),
    )
    return dataclasses.replace(data, batches=batches, tasks=tasks, branches=branches)


def few_shot_evaluations(tasks: TaskSource | None, learner: MetaLearner | None) -> Sequence[Evaluation]:
    """Return what learning by gradient is measured on while training: held-out tasks of sentences, if there are any."""
    if learner is None or not isinstance(tasks, EpisodeSource):
        return []
    try:
        tasks(0, "validation")
    except DataError as error:
        print(f"few-shot learning is not measured: {error}", file=sys.stderr)
        return []
    steps = learner.config.inner_steps
    is_quick = learner.config.adapts == HEAD
    measured = FewShot(
        tasks=tasks,
        learners={"as it is trained": learner},
        split="validation",
        n_episodes=N_TASKS if is_quick else N_SLOW_TASKS,
        n_steps=STEPS if is_quick else tuple(sorted({0, steps})),
        has_control=False,
    )
    return [measured]


def _samples(config: RunConfig, path: str, cache_dir: str | Path, seed: int) -> LearningData:
    samples = StoredSamples(
        path, cache_dir=cache_dir, n_tokens=config.model.vocab_size, max_length=config.model.max_seq_len
    )
    batches = SampleBatches(samples=samples, batch_size=config.data.dataloader.batch_size, seed=seed)
    held_out = HeldOutSamples(text=samples, epsilon_nats=config.evaluation.epsilon_nats)
    evaluations = [held_out, *_by_domain(config, None, samples.n_tokens)]
    dynamics_rows = _dynamics_rows(config, samples.n_tokens, held_out=samples)
    return LearningData(batches=batches, evaluations=evaluations, dynamics_rows=dynamics_rows)


def _corpus(data: DataConfig) -> Corpus:
    if data.text is not None:
        return TextFiles(data.text)
    dataset = data.dataset
    return open_dataset(str(dataset.name), subset=dataset.subset, split=dataset.split, column=dataset.column)


def _languages(config: RunConfig, family: Family, seed: int) -> LearningData:
    batch_size, length = config.data.dataloader.batch_size, config.model.max_seq_len
    stages = tuple(
        Stage(
            until_step=stage.until_step,
            family=config.family_of(stage),
            length=min(stage.length or length, length),
            batch_size=stage.batch_size,
        )
        for stage in (config.curriculum if config.data.easy_start else ())
    )
    batches = LanguageBatches(
        family=family,
        batch_size=batch_size,
        length=length,
        seed=seed,
        stages=stages,
        n_languages=config.data.n_languages,
        learns_laws=config.data.targets == "law",
    )
    fresh = FreshLanguages(
        family=family,
        length=length,
        n_languages=config.evaluation.n_languages,
        epsilon_nats=config.evaluation.epsilon_nats,
    )
    data = LearningData(
        batches=batches,
        evaluations=[fresh, *_by_domain(config, None, family.n_tokens)],
        dynamics_rows=_dynamics_rows(config, family.n_tokens),
    )
    return _with_tasks(config, data, language_tasks(config, family)) if config.smlmt.enabled else data


def _dynamics_rows(
    config: RunConfig,
    n_tokens: int,
    held_out: Text | StoredSamples | None = None,
    tokenizer: Tokenizer | None = None,
) -> DynamicsRows | None:
    """Return rows that are never learned: brand-new languages, some of what is held out, or what was named."""
    dynamics, length = config.checkpointing.learning_dynamics, config.model.max_seq_len
    seed, n_rows = derive(config.training.seed, "dynamics"), dynamics.batch_size
    if not dynamics.enabled:
        return None
    if dynamics.eval_data is not None:
        return rows_of_corpus(dynamics.eval_data, tokenizer, n_rows=n_rows, length=length, n_tokens=n_tokens)
    if held_out is not None:
        return rows_of_held_out(held_out, n_rows=n_rows, seed=seed)
    assert config.languages is not None
    rows = LanguageRows(family=config.languages, seed=seed, first=0, n_rows=n_rows, length=length)
    return rows_of_languages(rows, f"rows 0 to {n_rows - 1} of seed {seed} of {config.languages.name}")


def _by_domain(config: RunConfig, tokenizer: Tokenizer | None, n_tokens: int) -> Sequence[Evaluation]:
    """Return the evaluation by domain, if there are domains."""
    paloma, longest = config.evaluation.paloma, config.model.max_seq_len
    if paloma.dataset_name is None:
        return []
    return [
        DomainPerplexity(
            domains=open_domains(paloma.dataset_name, paloma.dataset_split),
            tokenizer=tokenizer,
            n_tokens=n_tokens,
            length=min(paloma.max_length or longest, longest),
            batch_size=paloma.batch_size,
        )
    ]
