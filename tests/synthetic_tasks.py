"""Small tasks whose classes can be told apart only by a token of their own, and decoders to learn them."""

from __future__ import annotations

import torch

from xenoglot.batches import TokenBatch
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode, Examples, LanguageEpisode
from xenoglot.languages import MetaLMv1

VOCAB_SIZE = 30
FIRST_ORDINARY_ID = 10
MAX_TOKENS = 10


def examples(n_shot: int, n_way: int, seed: int) -> Examples:
    """Random sentences of different lengths, each with a MASK, and its class's own id as the last token."""
    rng = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(n_shot * n_way) % n_way
    lengths_N = torch.randint(MAX_TOKENS // 2, MAX_TOKENS + 1, labels_N.shape, generator=rng)
    rows = torch.arange(len(labels_N))
    token_ids_NT = torch.randint(FIRST_ORDINARY_ID, VOCAB_SIZE, (len(rows), MAX_TOKENS), generator=rng)
    masks_N = (torch.rand(len(rows), generator=rng) * (lengths_N - 1)).long()
    token_ids_NT[rows, masks_N] = 0
    token_ids_NT[rows, lengths_N - 1] = labels_N + 1
    token_ids_NT[torch.arange(MAX_TOKENS) >= lengths_N[:, None]] = 0
    return Examples(token_ids_NT=token_ids_NT, lengths_N=lengths_N, mask_positions_N=masks_N, labels_N=labels_N)


def episode(seed: int = 0, n_way: int = 3, k_shot: int = 2, q_query: int = 2) -> Episode:
    return Episode(
        support=examples(k_shot, n_way, 2 * seed),
        query=examples(q_query, n_way, 2 * seed + 1),
        n_way=n_way,
        identity=f"synthetic task {seed}",
    )


def language_episode(seed: int = 0) -> LanguageEpisode:
    language = MetaLMv1(vocab_size=8, n_elements=2, element_length=4).draw(seed)
    batches = (language.batch(2, 12, seed=row) for row in (0, 1))
    support, query = (TokenBatch.from_arrays(batch.inputs, batch.targets) for batch in batches)
    return LanguageEpisode(support=support, query=query, identity=f"language {seed}")


def decoder(**options: object) -> Decoder:
    """Two layers with shared keys, float64, whose output matrix is not the zero that training starts from."""
    sizes = {
        "d_model": 8,
        "n_layers": 2,
        "attention_n_heads": 2,
        "attention_n_kv_heads": 1,
        "activation_hidden_dim": 12,
        "max_seq_len": 16,
        "vocab_size": VOCAB_SIZE,
    }
    made = Decoder(ModelConfig(**(sizes | options))).double()
    with torch.no_grad():
        made.lm_head.weight.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(5))
    return made
