"""Opens sessions of ONNX Runtime: with the wanted providers, fixed shapes, and a measure of both.

ONNX Runtime itself never fails on a missing provider, it moves the graph to the CPU and warns.
So what was wanted is asked for by force, and what was got is measured.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import onnxruntime as ort

from skerry_runtime.backends import providers
from skerry_runtime.backends.base import (
    CPU,
    LoadError,
    LoadRequest,
    ProviderMissing,
    accelerators,
)
from skerry_runtime.backends.messages import safe_text
from skerry_runtime.backends.providers import AddProvider
from skerry_runtime.backends.shapes import axis_values, is_fixed, require_static
from skerry_runtime.contract import Acceleration, Format

_MAX_NAMED_OPERATORS = 8
_MAX_REASON = 1024
_REMEDY = "use a variant without these operators, or fallback Allow"
_NOT_WHOLE = "fallback to CPU EP has been explicitly disabled"


log = logging.getLogger(__name__)


class _NotWholeError(Exception):
    """The providers leave a part of the graph, and the CPU was forbidden to take it."""


def open_session(request: LoadRequest) -> tuple[ort.InferenceSession, Acceleration]:
    """Open the file on the best of the wanted providers that works, and say what was got.

    Raises:
        ProviderMissing: fallback is forbidden, and the accelerators did not take the whole graph.
        LoadError: the file is no model that ONNX Runtime can run, or its shapes do not fit.
    """
    session, reason = _on_wanted_providers(request, _axis_values(request))
    axes = {node.name: node.shape for node in session.get_inputs()}
    if not is_fixed(axes, request.input_shapes):
        raise LoadError(
            "the axes of this file cannot be fixed when it is loaded"
            + (": an .ort file keeps them as it was made" * (request.format is Format.ORT))
        )
    if request.execution.static_shapes:
        require_static(axes)
    if reason:
        log.warning("not all wanted accelerators serve: %s", reason)
    return session, _measure(session, request, reason)


def _axis_values(request: LoadRequest) -> dict[str, int]:
    """Return the lengths of the named axes; the engine must open the file to know the names."""
    if not request.input_shapes:
        return {}
    options = _plain_options(request)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _create(request, options, [])
    axes = {node.name: node.shape for node in session.get_inputs()}
    return axis_values(axes, request.input_shapes)


def _on_wanted_providers(
    request: LoadRequest, fixed: dict[str, int]
) -> tuple[ort.InferenceSession, str]:
    """Try the accelerators as they are wanted, then the CPU where that is allowed.

    Returns:
        The session, and why an accelerator was not got.
    """
    wanted, is_strict = accelerators(request.execution), not request.execution.fallback
    adders, missing = _adders(request, wanted)
    if is_strict and wanted and not adders:
        raise ProviderMissing(f"{missing}; fallback is forbidden")
    if not adders:
        return _try(request, fixed, [], is_strict=False), missing
    hides = any(providers.hides_fallback(name, request.execution) for name in wanted)
    try:
        return _try(request, fixed, adders, is_strict=is_strict or hides), missing
    except _NotWholeError as error:
        reason = _leftover(request, fixed, adders)
        if is_strict:
            raise ProviderMissing(f"{reason}, and fallback is forbidden: {_REMEDY}") from error
    except LoadError as error:
        if is_strict:
            raise _blamed(request, fixed, error) from error
        reason = f"{wanted[0]} fails on this model: {error}"
    return _try(request, fixed, [], is_strict=False), reason


def _adders(request: LoadRequest, wanted: Sequence[str]) -> tuple[list[AddProvider], str]:
    """Return the wanted accelerators that are here, and why the best missing one is missing."""
    found: list[AddProvider] = []
    missing: list[str] = []
    for name in wanted:
        try:
            add = providers.adder_of(name, request.execution, request.threads)
            add(ort.SessionOptions())  # opens the library and looks for the device
        except ProviderMissing as error:
            missing.append(str(error))
        else:
            found.append(add)
    return found, missing[0] if missing else ""


def _try(
    request: LoadRequest, fixed: dict[str, int], adders: list[AddProvider], *, is_strict: bool
) -> ort.InferenceSession:
    options = _plain_options(request)
    for name, length in fixed.items():
        options.add_free_dimension_override_by_name(name, length)
    if is_strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return _create(request, options, adders)


def _plain_options(request: LoadRequest) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = 1
    # An arena keeps what the largest request took for good: docs/adr/0017-no-arena.md.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3  # errors; warnings name every node
    # A spinning thread would take the CPU from the event loop and from the neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Told, not guessed from the file's name: slots name files by their digest.
    options.add_session_config_entry(
        "session.load_model_format", "ORT" if request.format is Format.ORT else "ONNX"
    )
    return options


def _create(
    request: LoadRequest, options: ort.SessionOptions, adders: list[AddProvider]
) -> ort.InferenceSession:
    """Create the session on these providers, and on the CPU what they leave.

    Raises:
        _NotWholeError: they leave something, and the options forbid the CPU.
        LoadError: anything else.
    """
    for add in adders:
        add(options)
    named = {} if adders else {"providers": [CPU]}
    try:
        return ort.InferenceSession(
            str(request.path),
            options,
            **named,
            enable_fallback=0,  # the engine's own fallback is silent
        )
    except Exception as error:  # the engine's exceptions share no base class
        text = safe_text(error, request.path)
        if _NOT_WHOLE in text:
            raise _NotWholeError from error
        raise LoadError(f"the engine cannot load the file: {text}") from error


def _leftover(request: LoadRequest, fixed: dict[str, int], adders: list[AddProvider]) -> str:
    """Say what the accelerators did not take; for that the graph is opened once more."""
    first = accelerators(request.execution)[0]
    if providers.hides_fallback(first, request.execution):
        return f"{first} cannot run the whole graph on its device"
    try:
        session = _try(request, fixed, adders, is_strict=False)
    except LoadError:
        return f"{first} cannot run the whole graph"
    left = _operators_on_cpu(session)
    names = ", ".join(left[:_MAX_NAMED_OPERATORS]) + (", ..." * (len(left) > _MAX_NAMED_OPERATORS))
    share = _measure(session, request).delegated_percent
    return f"{first} takes {share:g} % of the graph and leaves {names or 'the rest'} to the CPU"


def _blamed(request: LoadRequest, fixed: dict[str, int], error: LoadError) -> LoadError:
    """Tell a bad file from an accelerator that fails: a bad file fails on the CPU as well."""
    try:
        _try(request, fixed, [], is_strict=False)
    except LoadError as on_cpu:
        return on_cpu
    first = accelerators(request.execution)[0]
    return ProviderMissing(
        f"{first} fails on this model, which the CPU can load; fallback is forbidden: {error}"
    )


def _measure(session: ort.InferenceSession, request: LoadRequest, reason: str = "") -> Acceleration:
    """Count the graph's nodes per provider, or believe the session where it keeps no record."""
    nodes = _nodes_per_provider(session)
    if not nodes:
        nodes = Counter({session.get_providers()[0]: 1})
    wanted = accelerators(request.execution) or (CPU,)
    return Acceleration(
        requested=request.execution.providers,
        effective=nodes.most_common(1)[0][0],
        delegated_percent=round(100.0 * sum(nodes[name] for name in wanted) / nodes.total(), 2),
        nodes=dict(nodes),
        reason=reason[:_MAX_REASON],
    )


def _nodes_per_provider(session: ort.InferenceSession) -> Counter[str]:
    nodes: Counter[str] = Counter()
    for subgraph in _assignment(session):
        nodes[subgraph.ep_name] += len(subgraph.get_nodes())
    return nodes


def operators_of(session: ort.InferenceSession) -> set[str]:
    """Return the graph's operators, those of branches and loops too; none where no record is."""
    return {node.op_type for part in _assignment(session) for node in part.get_nodes()}


def _operators_on_cpu(session: ort.InferenceSession) -> list[str]:
    parts = [part for part in _assignment(session) if part.ep_name == CPU]
    return sorted({node.op_type for part in parts for node in part.get_nodes()})


def _assignment(session: ort.InferenceSession) -> list[ort.EpAssignedSubgraph]:
    try:
        return list(session.get_provider_graph_assignment_info())
    except Exception:  # noqa: BLE001 an engine without the record: old, or built without it
        return []
