"""What is known of how curved a problem is."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants:
    """Smoothness of f, the mean of the workers' functions f_i, and of these.

    Attributes:
        smoothness: L of f.
        mean_smoothness: the quadratic mean of the L_i.
        largest_smoothness: the largest L_i.
        strong_convexity: mu of f, or its Polyak-Lojasiewicz constant; 0 where there is none.
        least_convexity: the least mu_i of the f_i; 0 where one is not strongly convex.
        hessian_variance: L_pm, by which mean|grad f_i(x) - grad f_i(y)|^2 may exceed
            |grad f(x) - grad f(y)|^2; None where it is not known.
        sample_smoothness: the quadratic mean over workers of the largest L_ij of one example; None
            where it is not known.
        convex: whether all f_i, and the losses of single examples, are convex; None where it is not
            known.
    """

    smoothness: float
    mean_smoothness: float
    largest_smoothness: float
    strong_convexity: float = 0.0
    least_convexity: float = 0.0
    hessian_variance: float | None = None
    sample_smoothness: float | None = None
    convex: bool | None = None
