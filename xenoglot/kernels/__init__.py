"""The compiled primitives that every family's sampler and every predictor is built from.

Three rules make a row the same whatever the batch, the thread or the process. By construction they should also make it
the same on every machine, which has not been tried on more than one kind of processor:

1. Every random word is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") of
   (seed, stream, row, block). No state is shared, and no two rows can overlap.
2. Sums are taken in a written order, side by side where that vectorises, and never reassociated by the compiler.
3. Multiply-adds are fused explicitly, and exp, log, tanh, sine and cosine are our own polynomials, so that no library
   of the machine takes part. They also vectorise, which calls to a library would not.

Laws are float64: float32 logits would be wrong in the sixth digit, and wide recurrent networks lose float32 altogether
within some dozen tokens (see `xenoglot.languages.metalm_v2`).
"""

from xenoglot.kernels.arithmetic import (
    LN_2,
    LOG2_E,
    cosine_and_sine_of_turn,
    exponential,
    fused_multiply_add,
    hyperbolic_tangent,
    log_complement,
    logarithm,
    nats_of,
    power_of_two,
    power_of_two_single,
)
from xenoglot.kernels.compiling import Real, Stream, Word, compiled, inlined, prefer_wide_vectors
from xenoglot.kernels.hashing import EMPTY, empty_slots, n_slots_of, slot_of
from xenoglot.kernels.threads import available_threads, run_rows
from xenoglot.kernels.variates import fill_normals, log_gamma_variate, poisson_table, standard_normal_pair
from xenoglot.kernels.weighing import (
    add_product,
    add_to,
    aligned_zeros,
    copy_to,
    open_sum_tree,
    sample_cumulative,
    sample_tree,
    set_powers_of_two,
    set_powers_of_two_single,
    set_squares,
    sum_tree,
)
from xenoglot.kernels.words import (
    LOW_32,
    SHIFT_32,
    STREAM_ELEMENTS,
    STREAM_LANGUAGE,
    STREAM_NOISE,
    STREAM_TOKENS,
    bounded_integer,
    next_uniform,
    next_word,
    open_stream,
    philox,
    uniform_of,
    whole_below,
)

__all__ = [
    "EMPTY",
    "LN_2",
    "LOG2_E",
    "LOW_32",
    "SHIFT_32",
    "STREAM_ELEMENTS",
    "STREAM_LANGUAGE",
    "STREAM_NOISE",
    "STREAM_TOKENS",
    "Real",
    "Stream",
    "Word",
    "add_product",
    "add_to",
    "aligned_zeros",
    "available_threads",
    "bounded_integer",
    "compiled",
    "copy_to",
    "cosine_and_sine_of_turn",
    "empty_slots",
    "exponential",
    "fill_normals",
    "fused_multiply_add",
    "hyperbolic_tangent",
    "inlined",
    "log_complement",
    "log_gamma_variate",
    "logarithm",
    "n_slots_of",
    "nats_of",
    "next_uniform",
    "next_word",
    "open_stream",
    "open_sum_tree",
    "philox",
    "poisson_table",
    "power_of_two",
    "power_of_two_single",
    "prefer_wide_vectors",
    "run_rows",
    "sample_cumulative",
    "sample_tree",
    "set_powers_of_two",
    "set_powers_of_two_single",
    "set_squares",
    "slot_of",
    "standard_normal_pair",
    "sum_tree",
    "uniform_of",
    "whole_below",
]
