"""Commands of an application of its own, which knows the answers to some of their options."""

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, Final

EXAMPLE: Final = "Example:"


def without(command: Callable[..., None], names: Collection[str]) -> Callable[..., None]:
    """The command, without these parameters."""

    @wraps(command)
    def shorter(**given: Any) -> None:
        command(**given)

    shorter.__doc__ = (command.__doc__ or "").partition(EXAMPLE)[0]  # it names what need not be named here
    signature = inspect.signature(command)
    kept = [parameter for name, parameter in signature.parameters.items() if name not in names]
    shorter.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # inspect reads it
    return shorter
