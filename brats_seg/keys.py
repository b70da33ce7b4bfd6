"""The keys of nested settings: `key=value` overrides, unknown keys with the nearest known, keys with dots."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

import yaml
from pydantic import BaseModel

from brats_seg.errors import ConfigError

__all__ = ["apply_override", "differing", "flattened", "unknown_keys"]


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set the value of one `key=value`, such as `train.steps=500`, in nested settings.

    Raises:
        ConfigError: it is not of this form, or its value is not YAML.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}: expected key=value, such as train.steps=500")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML") from error
    *path, last = key.split(".")
    node = values
    for name in path:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    node[last] = _as_number(value)


def _as_number(value: Any) -> Any:
    """Return 0.001 for the text `1e-3`, which YAML 1.1 reads as a word."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def unknown_keys(model: type[BaseModel], values: dict[str, Any], prefix: str = "") -> list[str]:
    """Return a line for each key of nested settings that the model does not have, with the nearest that it has."""
    lines = []
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            lines.append(f"unknown key {prefix}{key}{_nearest_key(key, prefix, model)}")
        elif isinstance(value, dict) and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += unknown_keys(field.annotation, value, f"{prefix}{key}.")
    return lines


def _nearest_key(key: str, prefix: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return (f"; did you mean {prefix}{close[0]}?" if close else "") + f" (known: {', '.join(known)})"


def flattened(values: dict[str, Any], whole: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """Return nested settings under keys with dots; those in `whole` are not taken apart."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and prefix + key not in whole:
            flat |= flattened(value, whole, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differing(values: dict[str, Any], base: dict[str, Any], whole: Collection[str] = (), prefix: str = "") -> Any:
    """Return the nested settings whose value is not that of `base`; those in `whole` differ as a whole."""
    changed = {}
    for key, value in values.items():
        before = base.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and prefix + key not in whole:
            if inner := differing(value, before, whole, f"{prefix}{key}."):
                changed[key] = inner
        elif value != before:
            changed[key] = value
    return changed
