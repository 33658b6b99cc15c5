r"""The gradient noise scale: how large a batch must be for its gradient to be more than noise."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["gradient_noise_scale", "noise_scale_of_norms"]


@measure(of="parts", label="Gradient noise scale", range=(0, math.inf))
def gradient_noise_scale(parts_PD: Values) -> float:
    r"""The simple noise scale, in parts, from the gradients of P equal and independent parts of a batch.

    .. math::
        B = \frac{\operatorname{tr} \Sigma}{|G|^2}, \qquad
        \widehat{\operatorname{tr} \Sigma} = \frac{1}{P - 1} \sum_p |g_p - \bar g|^2, \qquad
        \widehat{|G|^2} = |\bar g|^2 - \frac{1}{P} \widehat{\operatorname{tr} \Sigma}

    for the true gradient G and the covariance of a part's. Of parts of b rows each, it is B b rows. Batches much
    smaller than that learn as much from each row as any; of much larger ones, rows are wasted.

    0 where all parts have the same gradient, other than 0. nan for one part, and where the estimate of :math:`|G|^2` is
    not positive: then P parts are too few to tell the gradient from noise. Both estimates are unbiased, their ratio is
    not, and is heavy-tailed: over several steps, average each (`noise_scale_of_norms`), and divide the averages.

    Source: McCandlish et al. 2018, arXiv 1812.06162, section 2.2, equation 2.9, and appendix A.1, of which this is the
    case of batches of one part and of P. pico-analyze has none.

    Example:
        Of (1, 1) and (3, 1) the mean is (2, 1), tr = 1 + 1 = 2, and 5 - 2/2 = 4.

        >>> gradient_noise_scale([[1, 1], [3, 1]])
        0.5
    """
    n_parts = len(parts_PD)
    if n_parts < 2:
        return math.nan
    mean_D = parts_PD.mean(axis=0)
    noise = float(np.square(parts_PD - mean_D).sum()) / (n_parts - 1)
    signal = float(mean_D @ mean_D) - noise / n_parts
    return noise / signal if signal > 0 else math.nan


def noise_scale_of_norms(
    small_squared: float, large_squared: float, *, n_small: int, n_large: int
) -> tuple[float, float]:
    r"""Return unbiased estimates of :math:`|G|^2` and :math:`\operatorname{tr} \Sigma`, whose ratio is the noise scale.

    .. math::
        \widehat{|G|^2} = \frac{B\,|g_B|^2 - b\,|g_b|^2}{B - b}, \qquad
        \widehat{\operatorname{tr} \Sigma} = \frac{|g_b|^2 - |g_B|^2}{1/b - 1/B}

    So gradients need not be kept: only the lengths of a few. Either estimate can be negative.

    Source: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1.

    Args:
        small_squared: |g_b|^2, squared length of the gradient of b rows; the mean over several such batches.
        large_squared: |g_B|^2, of B rows.
        n_small: b.
        n_large: B, more than b.

    Returns:
        Both, :math:`\operatorname{tr} \Sigma` per row.

    Example:
        The parts (1, 1) and (3, 1) again, of one row each: mean squared length 6, and 5 of both together.

        >>> noise_scale_of_norms(6.0, 5.0, n_small=1, n_large=2)
        (4.0, 2.0)
    """
    signal = (n_large * large_squared - n_small * small_squared) / (n_large - n_small)
    noise = (small_squared - large_squared) / (1 / n_small - 1 / n_large)
    return signal, noise
