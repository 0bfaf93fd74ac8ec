"""The runtime type checker that `conftest.py` passes to jaxtyping's import hook."""

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))  # accepts an int as a float, as static type checkers do
