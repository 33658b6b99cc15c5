"""Meta-learning within a run: how often a step learns to adapt, to what tasks, and how.

Keys that Pico-MAML's `smlmt` section has too mean the same here. Where languages are learned, a task is one brand-new
language: rows to learn it from, and others to be judged by; keys about words and classes say nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xenoglot.config.adaptation import AdaptationConfig, ClassifierHeadConfig
from xenoglot.errors import OptionError
from xenoglot.options import check_options, option

__all__ = ["SMLMTConfig", "TasksConfig"]


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """Which tasks there are, and which share of the steps is theirs."""

    enabled: bool = option(False, "whether some steps learn to adapt to tasks")
    hybrid_ratio: float = option(
        0.5, "probability that a step is one of tasks; the others predict the next token", minimum=0, maximum=1
    )
    tasks_per_step: int = option(
        4, "tasks of an optimizer step, over all devices and accumulation steps together", unit="tasks", minimum=1
    )
    n_way: int = option(5, "words of a task, its classes", unit="words", minimum=2)
    k_shot: int = option(
        4, "sentences of each word to adapt to; of a language, rows", unit="sentences or rows", minimum=1
    )
    q_query: int = option(
        8, "sentences of each word to be judged by; of a language, rows", unit="sentences or rows", minimum=1
    )
    sentences: str | None = option(
        None,
        "what tasks are made of: a file with a sentence a line or running text, .jsonl, .parquet, or a folder of them; "
        "the training part of the text itself if none",
    )
    min_token_freq: int = option(1, "fewest sentences that a task's word occurs in", unit="sentences", minimum=1)
    max_token_freq: int | None = option(
        None, "most sentences that a task's word occurs in", unit="sentences", minimum=1
    )
    mask_token: str | None = option(
        None, "which token stands for the word that is asked for; the tokenizer's own MASK if none"
    )
    stem_language: str = option(
        "english", "whose endings are taken off, so that no two words of a task are forms of one; any: nobody's"
    )


@dataclass(frozen=True, kw_only=True)
class SMLMTConfig(AdaptationConfig, TasksConfig):
    """Steps that learn to adapt: tasks in which a masked word is told from few examples."""

    classifier_head: ClassifierHeadConfig = field(default_factory=ClassifierHeadConfig)

    def __post_init__(self) -> None:
        check_options(self)
        super().__post_init__()
        if self.max_token_freq is not None and self.max_token_freq < self.min_token_freq:
            raise OptionError("max_token_freq", self.max_token_freq, f"at least min_token_freq, {self.min_token_freq}")
