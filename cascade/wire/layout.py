"""What a layout is: a message's fields in order, and the way from record to fields and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, TypeAlias

from ..errors import WireError
from .fields import Kind
from .messages import Message
from .packing import TokenPacker

__all__ = ["REQUIRED", "Field", "Layout", "Values", "plain"]

Values: TypeAlias = tuple[Any, ...]
"""What msgpack writes and reads: the message's type, then its fields."""


class _Required:
    """Equal to nothing, so that a required field is never left out."""


REQUIRED: Final = _Required()


@dataclass(frozen=True, slots=True)
class Field:
    """One place in a message's array. A field with a default may be missing, with all after it."""

    name: str
    kind: Kind
    default: Any = REQUIRED


def _always_fit(values: Values, width: int) -> None:
    """Most messages have no fields that depend on each other."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All there is to know about the bytes of one message.

    `lower` turns a record into values, `lift` turns checked values into a record, and `relate` refuses
    values that do not go together (it is told the bytes per token).
    """

    number: int
    record: type[Message]
    fields: tuple[Field, ...]
    lower: Callable[[Any, TokenPacker], Values]
    lift: Callable[[Values, TokenPacker], Message]
    relate: Callable[[Values, int], None] = _always_fit
    name: str = field(init=False)
    accepts: tuple[Callable[[Any], bool], ...] = field(init=False)
    defaults: Values = field(init=False)
    num_required: int = field(init=False)
    num_values: int = field(init=False)

    def __post_init__(self) -> None:
        """Work out once what each message needs: checks and defaults by index, type included."""
        put = object.__setattr__
        put(self, "name", self.record.__name__.upper())
        put(self, "accepts", (lambda _: True, *(place.kind.accepts for place in self.fields)))
        put(self, "defaults", (REQUIRED, *(place.default for place in self.fields)))
        put(self, "num_required", sum(default is REQUIRED for default in self.defaults))
        put(self, "num_values", len(self.defaults))

    def check(self, values: Values) -> None:
        """Refuse values of the wrong type or out of range; what follows the known fields is not looked at."""
        for accepts, value in zip(self.accepts, values, strict=False):
            if not accepts(value):
                self._refuse(values)

    def trim(self, values: Values) -> Values:
        """Without the trailing fields that hold their defaults."""
        defaults = self.defaults
        last = len(values) - 1
        while values[last] == defaults[last]:
            last -= 1
        return values[: last + 1]

    def fill(self, values: Values) -> Values:
        """With defaults for missing trailing fields, and without unknown ones."""
        count, wanted = len(values), self.num_values
        if count == wanted:
            return values
        if count < self.num_required:
            raise WireError(f"{self.name}.{self.fields[count - 1].name}: missing")
        return values + self.defaults[count:] if count < wanted else values[:wanted]

    def _refuse(self, values: Values) -> None:
        for place, value in zip(self.fields, values[1:], strict=False):
            if not place.kind.accepts(value):
                raise WireError(f"{self.name}.{place.name}: expected {place.kind.says}")


def plain(number: int, record: type[Message], *fields: Field) -> Layout:
    """The layout of a record whose attributes are the fields themselves."""
    names = [place.name for place in fields]
    attributes = [attrgetter(name) for name in names]

    def lower(message: Message, _: TokenPacker) -> Values:
        return (number, *(attribute(message) for attribute in attributes))

    def lift(values: Values, _: TokenPacker) -> Message:
        return record(**dict(zip(names, values[1:], strict=True)))

    return Layout(number, record, fields, lower, lift)
