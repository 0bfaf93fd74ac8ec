"""The runtime checker of annotations, which `conftest.py` gives to jaxtyping's import hook."""

from beartype import BeartypeConf, beartype

typecheck = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it
