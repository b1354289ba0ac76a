"""Runs Lua as Argo CD does: version 5.1, and nothing but the base, table and os libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lupa import lua51

_SANDBOX = """
for _, name in ipairs({"string", "math", "io", "coroutine", "dofile", "loadfile"}) do
  _G[name] = nil
end
getmetatable("").__index = nil  -- nor string methods
debug = nil
"""


def run_lua(script: str, obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the script makes of the global `obj`; the object that is given stays as it is."""
    lua = lua51.LuaRuntime(register_eval=False)
    lua.execute(_SANDBOX)
    lua.globals().obj = _to_lua(lua, obj)
    answer = _to_python(lua.execute(script))
    assert isinstance(answer, dict)
    return answer


def _to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return lua.table_from({key: _to_lua(lua, one) for key, one in value.items()})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, one) for one in value])
    return value


def _to_python(value: Any) -> Any:
    if lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys and keys == list(range(1, len(keys) + 1)):
        return [_to_python(value[key]) for key in keys]
    return {key: _to_python(value[key]) for key in keys}
