"""Nonlinearities of the papers, and other ways back through rectifiers than the gradient."""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnlab.ops.forms import tuned

Rule = Literal["deconvnet", "guided"]

_rule: contextvars.ContextVar[Rule | None] = contextvars.ContextVar("rule", default=None)


@contextlib.contextmanager
def backward_rule(rule: Rule) -> Iterator[None]:
    """What is traced within goes back through rectifiers by another rule than the gradient; values stay as they are.

    With y = relu(x) and g what comes back to y, relu gives x

    - the gradient: g where y > 0, else 0;
    - "deconvnet": max(g, 0), whatever y was (Zeiler, Fergus 2013, section 2.1);
    - "guided": max(g, 0) where y > 0, else 0 (Springenberg et al. 2014, section 3.4: guided backpropagation).

    Under "deconvnet" `LRN` gives back what comes to it: the paper has no contrast normalisation on the way down. All
    else keeps its gradient, other nonlinearities such as tanh too: neither paper has any. A function that was jitted
    and traced before keeps the rule of that time.

    >>> with backward_rule("deconvnet"):
    ...     jax.vjp(relu, jnp.array([-1.0, 2.0, 2.0]))[1](jnp.array([3.0, 4.0, -5.0]))[0].tolist()
    [3.0, 4.0, 0.0]
    """
    token = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(token)


def current_rule() -> Rule | None:
    """The rule of `backward_rule` within which this is called; None: the gradient."""
    return _rule.get()


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0), with gradient 0 at 0; other ways back: `backward_rule`.

    On CPUs its result and its gradient are stored. XLA would otherwise compute an elementwise result again at each of
    its uses, and with it everything elementwise before it: through the sums of a residual net that is the whole way to
    the input. (The barriers count only where `parallel.CPU_OPTIONS` keep XLA from removing them.)

    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    rule = current_rule()
    if rule is not None:
        return _ruled_relu(x, rule)
    return _stored_relu(x) if tuned() else jax.nn.relu(x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _ruled_relu(x: Array, rule: Rule) -> Array:
    return jnp.maximum(x, 0)


def _ruled_forward(x: Array, rule: Rule) -> tuple[Array, Array]:
    y = jnp.maximum(x, 0)
    return y, y


def _ruled_backward(rule: Rule, y: Array, g: Array) -> tuple[Array]:
    g = jnp.maximum(g, 0)
    return (g if rule == "deconvnet" else jnp.where(y > 0, g, 0),)


_ruled_relu.defvjp(_ruled_forward, _ruled_backward)


@jax.custom_vjp
def _stored_relu(x: Array) -> Array:
    return lax.optimization_barrier(jnp.maximum(x, 0))


def _forward(x: Array) -> tuple[Array, Array]:
    y = _stored_relu(x)
    return y, y


def _backward(y: Array, g: Array) -> tuple[Array]:
    return (lax.optimization_barrier(jnp.where(y > 0, g, 0)),)


_stored_relu.defvjp(_forward, _backward)


def leaky_relu(x: Float[Array, "*shape"], slope: float = 0.2) -> Float[Array, "*shape"]:
    """x where it is positive, else slope · x (Maas, Hannun, Ng 2013); its gradient at 0 is `slope`.

    A slope of 0.2 is that of DCGAN's discriminator (Radford, Metz, Chintala 2015, section 4).

    >>> leaky_relu(jnp.array([-1.0, 2.0])).tolist()
    [-0.20000000298023224, 2.0]
    """
    return jnp.where(x > 0, x, slope * x)


def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """LeCun's squashing function 1.7159·tanh(2x/3), with f(±1) = ±1.

    LeCun, Bottou, Bengio, Haffner 1998, appendix A. The range is (−1.7159, 1.7159); the curvature is greatest at ±1, so
    targets of ±1 keep units out of saturation.

    >>> round(float(scaled_tanh(jnp.float32(1.0))), 3)
    1.0
    """
    return 1.7159 * jnp.tanh(2.0 / 3.0 * x)
