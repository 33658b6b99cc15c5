"""What attention heads do: who attends to whom, what is written then, and who copies by looking back."""

from xenoglot.mechanisms.attention import attention_patterns
from xenoglot.mechanisms.circuits import ov_activations, ov_circuits, ov_products
from xenoglot.mechanisms.induction import (
    copy_scores,
    matched_sources,
    previous_sources,
    repeated_sources,
    repeated_tokens,
    source_scores,
    uniform_score,
)

__all__ = [
    "attention_patterns",
    "copy_scores",
    "matched_sources",
    "ov_activations",
    "ov_circuits",
    "ov_products",
    "previous_sources",
    "repeated_sources",
    "repeated_tokens",
    "source_scores",
    "uniform_score",
]
