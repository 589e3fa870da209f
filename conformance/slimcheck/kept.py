"""A property that is computed once, and by any number of threads for as many objects."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class kept(Generic[Value]):  # noqa: N801 - a decorator
    """A property that is computed at its first use and kept in the object.

    functools.cached_property has, before Python 3.12, one lock for all objects of a class: threads
    that work on different ones wait for each other.
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "kept[Value]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...
    def __get__(self, instance: object | None, owner: type) -> "kept[Value] | Value":
        if instance is None:
            return self
        value = self._function(instance)
        instance.__dict__[self._function.__name__] = value  # found there before this is asked again
        return value
