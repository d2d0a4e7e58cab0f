"""Adversarial examples by the gradient's sign: pictures changed by no more than ε, and so that a network is wrong.

Each attack is a pure function of `logits`, pictures in [0, 1] → a score a class, and of pictures, many at once; what it
gives stays in [0, 1]. Within `jax.jit` it is one program; outside, a loop over compiled steps: then give `logits` as a
`jax.tree_util.Partial` of one function and the variables, or it is compiled anew for every function that you make.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, Key

from cnnlab.data.draws import split, uniform
from cnnlab.errors import UserError, nearest

Pictures = Float[Array, "n h w c"]
Logits = Callable[[Pictures], Float[Array, "n k"]]
Attack = Callable[[Logits, Pictures, Int[Array, " n"], Key[Array, " n"]], Pictures]  # of labels, and a key a picture
NORMS = ("linf", "l2")


def check_norm(norm: str, name: str = "norm") -> None:
    """Raises a `UserError` unless there is such a norm; `name` is what the error calls the field."""
    if norm not in NORMS:
        raise UserError(f"{name} is {norm!r}{nearest(norm, NORMS) or '; it must be one of ' + ', '.join(NORMS)}")


def check_epsilon(epsilon: float, norm: str, shape: tuple[int, ...], name: str = "epsilon") -> None:
    """Makes sure that ε is a distance that two pictures of `shape` in [0, 1] can have.

    >>> check_epsilon(0.25, "linf", (28, 28, 1))

    Raises:
      UserError: it is not; `name` is what the error calls the field.
    """
    most = 1.0 if norm == "linf" else math.sqrt(math.prod(shape))
    if not 0 <= epsilon <= most:
        raise UserError(
            f"{name} is {epsilon:g}; pixels being from 0 to 1, in the norm {norm} it must be from 0 to {most:g}"
        )


def check_steps(steps: int, name: str = "steps") -> None:
    """Raises a `UserError` unless there is a step; `name` is what the error calls the field."""
    if steps < 1:
        raise UserError(f"{name} is {steps}; it must be at least 1")


def log_odds(logits: Float[Array, "n k"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """ln((1 − p) / p), p being the softmax's probability of the label: what the attacks raise, or lower for a target.

    Cross-entropy is ln(1 + e^this), so their gradients point the same way; but where the network is sure, that of
    cross-entropy is lost in rounding, and this one's is not.

    >>> log_odds(jnp.array([[100.0, 0.0]]), jnp.array([0])).tolist()
    [-100.0]
    """
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return others - jnp.sum(jnp.where(own, logits, 0), -1)


def size(change: Pictures, norm: str) -> Float[Array, " n"]:
    """Each picture's norm: "linf", its greatest pixel in absolute value, or "l2", the root of the sum of squares."""
    flat = change.reshape(len(change), -1)
    return jnp.abs(flat).max(-1) if norm == "linf" else jnp.sqrt(jnp.square(flat).sum(-1))


def project(x: Pictures, clean: Pictures, epsilon: float | Float[Array, ""], norm: str) -> Pictures:
    """What is nearest to `x` among the pictures in [0, 1] that are no further than ε from `clean`, which is in [0, 1].

    In the maximum norm both are boxes. In L2 it is clean + s · (x − clean), cut to [0, 1], with the greatest s ≤ 1
    whose distance is at most ε, as the conditions of Karush, Kuhn and Tucker say; it is found by bisection.

    >>> nearest = project(jnp.full((1, 1, 1, 2), 2.0), jnp.array([[[[0.5, 0.9]]]]), 0.2, "linf")
    >>> [round(x, 3) for x in nearest.ravel().tolist()]
    [0.7, 1.0]
    """
    if norm == "linf":
        return jnp.clip(jnp.clip(x, clean - epsilon, clean + epsilon), 0, 1)
    change = x - clean

    def at(share: Float[Array, "n 1 1 1"]) -> Pictures:
        return jnp.clip(clean + share * change, 0, 1)

    def halve(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = each(size(at(middle) - clean, norm) <= epsilon)
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    # Cutting to [0, 1] can but shorten a change: ε / its length is a share that fits.
    whole = jnp.ones((len(x), 1, 1, 1))
    low = jnp.minimum(whole, epsilon / jnp.maximum(each(size(change, norm)), 1e-30))
    low, _ = jax.lax.fori_loop(0, 30, halve, (low, whole))
    fits = each(size(at(whole) - clean, norm) <= epsilon)
    return at(jnp.where(fits, whole, low))


def steepest(gradient: Pictures, norm: str) -> Pictures:
    """The change of norm 1 along which a linear function with this gradient rises most; 0 where the gradient is 0."""
    if norm == "linf":
        return jnp.sign(gradient)
    return gradient / jnp.maximum(each(size(gradient, norm)), 1e-30)


def random_start(keys: Key[Array, " n"], x: Pictures, epsilon: float | Float[Array, ""], norm: str) -> Pictures:
    """Pictures drawn evenly from the ball of radius ε around each, then cut to [0, 1].

    Args:
      keys: one a picture.
      x: the pictures.
      epsilon: the radius.
      norm: of the ball.
    """
    count = math.prod(x.shape[1:])
    if norm == "linf":
        change = uniform(keys, (-1, 1), x.shape[1:])
    else:
        directions, radii = split(keys, 2)
        change = steepest(jax.vmap(lambda key: jax.random.normal(key, (count,)))(directions).reshape(x.shape), norm)
        change *= each(uniform(radii, (0, 1)) ** (1 / count))  # as volumes grow
    return jnp.clip(x + epsilon * change, 0, 1)


def fgsm(
    logits: Logits,
    x: Pictures,
    labels: Int[Array, " n"],
    *,
    epsilon: float | Float[Array, ""],
    norm: str = "linf",
    targeted: bool = False,
) -> Pictures:
    """The fast gradient sign method, x + ε sign ∇J(x, label): the best change there is, were the network linear.

    Goodfellow, Shlens, Szegedy 2014, section 4. In L2 the step is ε ∇J / |∇J|.

    Args:
      logits: what is attacked.
      x: pictures in [0, 1].
      labels: what they are to be taken for no longer; if `targeted`, what they are to be taken for.
      epsilon: the size of the change.
      norm: in which it is measured, one of `NORMS`.
      targeted: lower the label's cross-entropy J instead of raising it.
    """
    return _climb(logits, x, x, labels, epsilon, 1, 1.0, norm, targeted)


def iterated_fgsm(
    logits: Logits,
    x: Pictures,
    labels: Int[Array, " n"],
    *,
    epsilon: float | Float[Array, ""],
    steps: int = 10,
    norm: str = "linf",
    targeted: bool = False,
) -> Pictures:
    """Several smaller steps of `fgsm`, each with a new gradient, never further than ε from the picture.

    Kurakin, Goodfellow, Bengio 2016 ("Adversarial examples in the physical world"), section 2.2: the basic iterative
    method. The steps add up to 1.25 ε, as theirs do but where ε is small. Arguments as in `fgsm`.
    """
    return _climb(logits, x, x, labels, epsilon, steps, 1.25, norm, targeted)


def pgd(
    logits: Logits,
    x: Pictures,
    labels: Int[Array, " n"],
    keys: Key[Array, " n"],
    *,
    epsilon: float | Float[Array, ""],
    steps: int = 40,
    norm: str = "linf",
    targeted: bool = False,
) -> Pictures:
    """Projected gradient ascent from a random picture no further than ε.

    Madry et al. 2017 ("Towards deep learning models resistant to adversarial attacks"), section 2.1. The steps add up
    to 2.5 ε, so that any place of the ball can be reached from any other. Arguments as in `fgsm`, and a key a picture.
    """
    check_norm(norm)
    start = random_start(keys, x, epsilon, norm)
    return _climb(logits, start, x, labels, epsilon, steps, 2.5, norm, targeted)


def _climb(
    logits: Logits,
    x: Pictures,
    clean: Pictures,
    labels: Int[Array, " n"],
    epsilon: float | Float[Array, ""],
    steps: int,
    together: float,
    norm: str,
    targeted: bool,
) -> Pictures:
    """Steps that are `together` times ε long, from `x`, never further than ε from `clean`."""
    check_norm(norm)
    check_steps(steps)
    logits, length = as_argument(logits), (-together if targeted else together) * epsilon / steps
    for _ in range(steps):  # no loop of lax's: on CPUs convolutions within it are many times slower
        x = _step(logits, x, clean, labels, epsilon, length, norm)
    return x


@functools.partial(jax.jit, static_argnames="norm")
def _step(
    logits: Partial,
    x: Pictures,
    clean: Pictures,
    labels: Int[Array, " n"],
    epsilon: float | Float[Array, ""],
    length: float | Float[Array, ""],
    norm: str,
) -> Pictures:
    gradient = jax.grad(lambda x: log_odds(logits(x), labels).sum())(x)
    return project(x + length * steepest(gradient, norm), clean, epsilon, norm)


def as_argument(logits: Logits) -> Partial:
    """A function as an argument of jitted functions."""
    return logits if isinstance(logits, Partial) else Partial(logits)


def each(values: Float[Array, " n"] | Bool[Array, " n"]) -> Float[Array, "n 1 1 1"] | Bool[Array, "n 1 1 1"]:
    """A number a picture, to multiply pictures with."""
    return values[:, None, None, None]
