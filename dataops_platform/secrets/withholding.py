"""Keeping secrets from programs that write down what they find in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dataops_platform.secrets.redaction import is_secret

_KEPT_BY_DBT = "DBT_ENV_SECRET"
"""dbt keeps variables that begin so out of models, artifacts and logs itself."""


@contextmanager
def withheld() -> Iterator[None]:
    """Take variables that are a secret out of the environment while dbt runs in this process.

    dbt writes what `env_var()` gives a model into compiled SQL, its parse cache and the warehouse, where nothing can
    take it back. Without the variable, the model is an error that names it. A profile gets its secret from a variable
    that begins with DBT_ENV_SECRET.
    """
    taken = {
        name: value for name, value in os.environ.items() if is_secret(value) and not name.startswith(_KEPT_BY_DBT)
    }
    for name in taken:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(taken)
