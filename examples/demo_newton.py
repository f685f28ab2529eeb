"""Logistic regression on real data by Newton's method, one text for both frameworks.

The loss is made of the rule `log1pexp`; its gradient is taken in reverse, its Hessian forward over
reverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import diptych
from demo_rules import log1pexp

STRENGTH = 1.0  # of the L2 penalty, which the intercept is free of: the optimum is then unique


@dataclass(frozen=True)
class Fit:
    """Where a method arrived.

    Attributes:
        name: the method.
        weights: one for each feature, the intercept last.
        objective: the penalised loss there.
        steps: how many iterations it took.
    """

    name: str
    weights: np.ndarray
    objective: float
    steps: int


def load() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's breast-cancer data: (569, 30) standardised features, (569,) labels."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    features, labels = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(features), labels.astype(np.float64)


def loss(weights: Any, features: Any, labels: Any) -> Any:
    """Returns the penalised negative log-likelihood, a scalar.

    It is what scikit-learn minimises, times `STRENGTH`: there C = 1 / STRENGTH weighs the data.
    """
    xp = diptych.namespace(weights)
    slopes, intercept = weights[:-1], weights[-1]
    scores = features @ slopes + intercept
    misfit = xp.sum(log1pexp(scores) - labels * scores)
    return misfit + 0.5 * STRENGTH * xp.sum(slopes * slopes)


def newton(name: str, features: Any, labels: Any, start: Any, most: int = 30) -> Fit:
    """Minimises the loss from `start` by Newton's method, in the framework of its arrays."""
    xp = diptych.namespace(start)
    objective = partial(loss, features=features, labels=labels)
    gradient = diptych.grad(objective)
    hessian = diptych.jacobian(gradient, mode="forward")
    weights = start
    for step in range(most):
        slope = gradient(weights)
        if float(xp.max(xp.abs(slope))) < 1e-9:
            return Fit(name, np.asarray(weights), float(objective(weights)), step)
        weights = weights - xp.linalg.solve(hessian(weights), slope)
    raise RuntimeError(f"{name}: the gradient is {slope} after {most} Newton steps")


def fit_torch() -> Fit:
    import torch

    features, labels = (torch.from_numpy(array) for array in load())
    return newton("PyTorch", features, labels, torch.zeros(31, dtype=torch.float64))


def fit_jax() -> Fit:
    import jax.numpy as jnp

    features, labels = (jnp.asarray(array) for array in load())
    return newton("JAX", features, labels, jnp.zeros(31))


def fit_sklearn() -> Fit:
    """Returns scikit-learn's own solution, iterated as far as it goes."""
    from sklearn.linear_model import LogisticRegression

    features, labels = load()
    model = LogisticRegression(C=1 / STRENGTH, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(features, labels)
    weights = np.concatenate([model.coef_[0], model.intercept_])
    return Fit(
        "scikit-learn", weights, float(loss(weights, features, labels)), int(model.n_iter_[0])
    )
