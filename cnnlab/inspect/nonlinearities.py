"""Which function each layer's output goes through: it lies in no module, and is read off the network's jaxpr."""

import flax.linen as nn
import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jaxtyping import Array, PyTree

from cnnlab.inspect.layers import run
from cnnlab.ops.forms import plain_forms

NONE = ("", 1.0)


def nonlinearities(
    model: nn.Module, variables: PyTree, x: Array | jax.ShapeDtypeStruct
) -> dict[str, tuple[str, float]]:
    """By layer, the function that its output goes through at once, and the factor before it; nothing is computed.

    "relu", "tanh" or "logistic" (the sigmoid); "" for any other, for none, and where the output goes several ways.

    Args:
      model: the network.
      variables: its variables or their shapes.
      x: its input or its shape.

    >>> import jax.numpy as jnp
    >>> model, x = nn.Sequential([nn.Dense(2), nn.relu, nn.Dense(2), lambda x: nn.tanh(0.5 * x)]), jnp.ones((1, 3))
    >>> nonlinearities(model, model.init(jax.random.key(0), x), x)
    {'layers_0': ('relu', 1.0), 'layers_2': ('tanh', 0.5)}
    """
    names: list[str] = []

    def outputs(variables: PyTree, x: Array) -> list[Array]:
        found = run(model, variables, x)[1]
        names[:] = found
        return list(found.values())

    with plain_forms():
        jaxpr = jax.make_jaxpr(outputs)(variables, x).jaxpr
    return {name: _follows(jaxpr, output, 1.0) for name, output in zip(names, jaxpr.outvars, strict=True)}


def _follows(jaxpr: Jaxpr, value: Var | Literal, factor: float) -> tuple[str, float]:
    """What all uses of a value agree on."""
    uses = [eqn for eqn in jaxpr.eqns if any(atom is value for atom in eqn.invars)]
    found = {_function(jaxpr, eqn, value, factor) for eqn in uses}
    return found.pop() if len(found) == 1 else NONE


def _function(jaxpr: Jaxpr, eqn: JaxprEqn, value: Var, factor: float) -> tuple[str, float]:
    """The nonlinearity that one equation is or leads to; through changes of scale, shape and type, and into calls."""
    kind, params = eqn.primitive.name, eqn.params
    number = next((float(atom.val) for atom in eqn.invars if isinstance(atom, Literal) and not np.ndim(atom.val)), None)
    if kind in ("tanh", "logistic"):
        return kind, factor
    if kind == "max" and number == 0:
        return "relu", factor
    if kind == "mul" and number is not None:
        return _follows(jaxpr, eqn.outvars[0], factor * number)
    if kind in ("reshape", "convert_element_type"):
        return _follows(jaxpr, eqn.outvars[0], factor)
    called = params.get("jaxpr", params.get("call_jaxpr"))
    called = called.jaxpr if isinstance(called, ClosedJaxpr) else called
    if isinstance(called, Jaxpr) and len(called.invars) == len(eqn.invars):
        place = next(i for i, atom in enumerate(eqn.invars) if atom is value)
        return _follows(called, called.invars[place], factor)
    return NONE
