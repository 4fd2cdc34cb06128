"""What a stream file says of studies: one model in several variants."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from st_pipeline.fields import Name, Part, Seed, fault
from st_pipeline.model_config import ModelConfig


class StudyConfig(Part):
    """One model in several variants, trained when it is asked for.

    Either `vary`: one dotted key of the model's entry with the values it takes, e.g. `{prompt_pool.rank: [2, 4, 6]}`;
    or `cases`: names with the dotted keys that each changes, e.g. `{mse: {training.loss: mse}}`, for an ablation.
    With `seeds` the variants are trained with those instead of the model's own.
    """

    name: Name
    of: Name
    vary: dict[str, tuple[Any, ...]] = Field(default_factory=dict, max_length=1)
    cases: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    seeds: tuple[Seed, ...] = Field((), max_length=100)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.vary) == bool(self.cases):
            raise ValueError("expected either 'vary', one key with its values, or 'cases', named changes")
        if self.vary and not self.values:
            raise fault(f"study {self.name!r}, {self.key}: there are no values; give at least one", "vary")
        for value in self.values:
            if not isinstance(value, str | int | float | None):
                found = (
                    f"study {self.name!r}, {self.key}: found {value!r}, expected plain values; name it under 'cases'"
                )
                raise fault(found, "vary")
        names = [_as_name(value) for value in self.values]
        if twice := {name for name in names if names.count(name) > 1}:
            raise fault(f"study {self.name!r}, {self.key}: two values would be called {min(twice)!r}", "vary")
        return self

    @property
    def key(self) -> str:
        """The dotted key that is varied; `case` where several are."""
        return next(iter(self.vary), "case")

    @property
    def values(self) -> tuple[Any, ...]:
        """Values of that key, or names of the cases."""
        return self.vary[self.key] if self.vary else tuple(self.cases)

    def variants(self, base: ModelConfig) -> dict[Any, ModelConfig]:
        """The base with each value, or each case's changes, in place.

        Raises:
            PydanticCustomError: the base has no such key, or a value is not allowed there.
        """
        changes = {value: {self.key: value} for value in self.values} if self.vary else self.cases
        return {value: self._variant(base, value, change) for value, change in changes.items()}

    def _variant(self, base: ModelConfig, value: Any, changes: dict[str, Any]) -> ModelConfig:
        entry = base.model_dump(exclude_unset=True)
        for key, changed in changes.items():
            _put(entry, key, changed, study=self.name)
        entry["name"] = f"{base.name}_{self.name}_{_as_name(value)}"
        if self.seeds:
            entry["seeds"] = self.seeds
            entry.pop("seed", None)
        try:
            return ModelConfig.model_validate(entry)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or self.key
            found = f"study {self.name!r}, {self.key} = {value!r}: {where}: {problem['msg']}"
            raise fault(found, "vary" if self.vary else "cases") from None


def _put(entry: dict[str, Any], key: str, value: Any, *, study: str) -> None:
    """Set a dotted key of a model's entry; sections that it leaves out are made.

    Raises:
        PydanticCustomError: there can be nothing at such a key.
    """
    if key == "name":
        raise fault(f"study {study!r}: a study names its models itself; vary another key than 'name'", "studies")
    *path, last = key.split(".")
    section = entry
    for part in path:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise fault(f"study {study!r}, {key} = {value!r}: {part!r} of the model has no keys of its own", "studies")
    section[last] = value


def _as_name(value: Any) -> str:
    """A value as the end of a model's name."""
    text = str(value).lower()
    return "".join(letter if letter.isalnum() else "_" for letter in text)
