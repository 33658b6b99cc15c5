"""Xenoglot: the lab for meta language models, measured against the exact loss of the best possible learner."""
