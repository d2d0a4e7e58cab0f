"""Whether samples show every class, and each clearly, in the opinion of a classifier.

Salimans et al. 2016, section 4, make one score of both. A model that has collapsed shows few classes.
"""

import numpy as np
from jaxtyping import Array, Float

from cnnlab.errors import UserError


def entropy(probabilities: Float[Array | np.ndarray, "*shape k"]) -> Float[np.ndarray, "*shape"]:
    """−Σ p log p along the last axis, in nats; from 0, all in one class, to log k, all alike.

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4).tolist()
    [0.0, 0.6931]
    """
    p = np.asarray(probabilities, np.float64)
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1)), -1) + 0.0)  # + 0: no minus before a nought


def class_shares(probabilities: Float[Array | np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """The share of samples that have each class as their likeliest; of equally likely ones the lower.

    >>> class_shares(np.array([[0.9, 0.1, 0.0], [0.2, 0.4, 0.4]])).tolist()
    [0.5, 0.5, 0.0]

    Raises:
      UserError: there are no samples.
    """
    p = np.asarray(probabilities)
    if not len(p):
        raise UserError("no samples have no classes: there must be some")
    return np.bincount(p.argmax(-1), minlength=p.shape[-1]) / len(p)


def inception_score(probabilities: Float[Array | np.ndarray, "n k"]) -> float:
    """exp(mean KL(p(y|x) ‖ p(y))), p(y) being the mean over all samples: from 1 to k, greater is better.

    1 where all samples look alike to the classifier, or none like anything; k where each is surely of one class and all
    classes are as frequent. Salimans et al. 2016 take the Inception network's probabilities of 50,000 samples;
    another classifier's figures are none to set beside theirs.

    >>> inception_score(np.array([[1.0, 0.0], [0.0, 1.0]])), inception_score(np.array([[0.25, 0.75]] * 2))
    (2.0, 1.0)
    """
    p = np.asarray(probabilities, np.float64)
    # The mean of KL(p(y|x) ‖ p(y)) is the entropy of the mean less the mean of the entropies.
    return float(np.exp(entropy(p.mean(0)) - entropy(p).mean()))


def coverage(probabilities: Float[Array | np.ndarray, "n k"], least: float = 0.1) -> dict[str, float]:
    """How samples spread over the classes.

    Args:
      probabilities: a classifier's, of each sample; its mistakes count against the samples.
      least: the share of samples that a class must have to count as shown, as a part of the even share 1/k.

    Gives "classes", how many are shown; "class_entropy", that of the shares in nats, log k at best;
    "prediction_entropy", the mean of each sample's own, 0 at best; "inception_score".

    Raises:
      UserError: there are no samples.

    >>> scores = coverage(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    >>> {name: round(score, 4) for name, score in scores.items()}
    {'classes': 2.0, 'class_entropy': 0.6931, 'prediction_entropy': 0.0, 'inception_score': 2.0}
    """
    shares = class_shares(probabilities)
    return {
        "classes": float(np.sum(shares * len(shares) >= least)),
        "class_entropy": float(entropy(shares)),
        "prediction_entropy": float(entropy(probabilities).mean()),
        "inception_score": inception_score(probabilities),
    }
