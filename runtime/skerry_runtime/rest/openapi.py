"""The REST port as an OpenAPI document: what GET /openapi.json and /v2/docs answer."""

from __future__ import annotations

from typing import Any

from skerry_runtime import __version__
from skerry_runtime.protocol.tensors import DTYPES, MAX_NAME

Json = dict[str, Any]

BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def document(model_name: str) -> Json:
    """Return the whole document; the model's name is its example."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Skerry: Open Inference Protocol v2",
            "version": __version__,
            "description": "Tensors travel as JSON or, with Inference-Header-Content-Length, as "
            "raw little-endian bytes behind the JSON, each in the order of its entry. Floats in "
            "JSON may be NaN, Infinity and -Infinity, which strict parsers do not read.",
        },
        "paths": _paths(),
        "components": {"schemas": _schemas(), "parameters": _parameters(model_name)},
    }


def _paths() -> Json:
    paths = {
        "/v2": _get("serverMetadata", "Name, version and extensions", "ServerMetadata"),
        "/v2/health/live": {"get": _probe("serverLive", "The process answers", "Live")},
        "/v2/health/ready": {"get": _server_ready()},
        "/v2/models/stats": _get("allStatistics", "Statistics of the model", "Statistics", "404"),
        "/v2/repository/index": _index(),
        "/openapi.json": _get("openapi", "This document", "Document"),
    }
    for version, suffix in (("", ""), ("/versions/{version}", "OfVersion")):
        base = "/v2/models/{name}" + version
        names = ["name", "version"] if version else ["name"]
        of_model = {
            base: _get("modelMetadata" + suffix, "Inputs and outputs", "ModelMetadata", "404"),
            base + "/config": _get("modelConfig" + suffix, "As a configuration", "Config", "404"),
            base + "/stats": _get("statistics" + suffix, "Statistics", "Statistics", "404"),
            base + "/ready": {
                "get": _probe("modelReady" + suffix, "It serves", "ModelReady", "404", "503")
            },
            base + "/infer": {"post": _infer("infer" + suffix)},
        }
        for path in of_model.values():
            path["parameters"] = [_ref("parameters", name) for name in names]
        paths |= of_model
    return paths


def _get(identity: str, text: str, schema: str, *errors: str) -> Json:
    answers = {"200": _answer(text, schema), **_errors(*errors, "400")}
    if errors:
        answers |= _errors("503")
    return {"get": {"operationId": identity, "summary": text, "responses": answers}}


def _probe(identity: str, text: str, schema: str, *errors: str) -> Json:
    answers = {"200": _answer(text, schema), **_errors("400", *errors)}
    return {"operationId": identity, "summary": text, "responses": answers}


def _server_ready() -> Json:
    probe = _probe("serverReady", "A model serves", "Ready")
    probe["responses"]["503"] = _answer("None does", "Ready")
    return probe


def _index() -> Json:
    body = {"content": {"application/json": {"schema": _ref("schemas", "IndexRequest")}}}
    answers = {"200": _answer("The one model", "Index"), **_errors("400", "413", "415")}
    shared = {"summary": "The repository's index", "responses": answers}
    return {
        "get": {"operationId": "index", **shared},
        "post": {"operationId": "repositoryIndex", "requestBody": body, **shared},
    }


def _infer(identity: str) -> Json:
    answer = _answer("The outputs", "InferResponse")
    answer["content"] |= BINARY
    answer["headers"] = {
        "skerry-revision": {"schema": {"type": "string"}},
        "inference-header-content-length": {"schema": {"type": "integer"}},
    }
    return {
        "operationId": identity,
        "summary": "One inference",
        "parameters": [_ref("parameters", "headLength"), _ref("parameters", "encoding")],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("schemas", "InferRequest")},
                **BINARY,
            },
        },
        "responses": {
            "200": answer,
            **_errors("400", "404", "408", "413", "415", "429", "500", "501", "503"),
        },
    }


def _answer(text: str, schema: str) -> Json:
    content = {"application/json": {"schema": _ref("schemas", schema)}}
    return {"description": text, "content": content}


def _errors(*statuses: str) -> Json:
    return {status: _answer(ERRORS[status], "Error") for status in statuses}


ERRORS = {
    "400": "The request is not valid",
    "404": "No such model, version or path",
    "408": "The body came too slowly",
    "413": "The body is too large",
    "415": "The body is encoded in an unknown way",
    "429": "Too many requests; try again after Retry-After",
    "500": "The model failed",
    "501": "A transfer encoding that is not offered",
    "503": "No model serves yet",
}


def _parameters(model_name: str) -> Json:
    text = {"type": "string", "minLength": 1}
    return {
        "name": {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": text,
            "example": model_name,
        },
        "version": {"name": "version", "in": "path", "required": True, "schema": text},
        "headLength": {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "schema": {"type": "integer", "minimum": 0},
        },
        "encoding": {
            "name": "Content-Encoding",
            "in": "header",
            "schema": {"enum": ["identity", "gzip", "deflate"]},
        },
    }


def _schemas() -> Json:
    texts = _list({"type": "string"})
    tensor = {"name": _text(), "datatype": _text(), "shape": _list({"type": "integer"})}
    infos = _list(_object(tensor, {"parameters": {"type": "object"}}))
    duration = _object({"count": _count(), "ns": _count()})
    figure = {"type": ["number", "null"]}
    batching = {
        "is_on": {"type": "boolean"},
        "mode": {"enum": ["Auto", "On", "Off"]},
        "reason": _text(),
        "alone_us": figure,
        "batched_us": figure,
    }
    computing = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), duration)
    batch = _object({"batch_size": _count(), **computing})
    names = ("success", "fail", "queue", *computing, "cache_hit", "cache_miss")
    statistics = {
        "name": _text(),
        "version": _text(),
        "served_version": _text(),
        "last_inference": _count(),
        "inference_count": _count(),
        "execution_count": _count(),
        "inference_stats": _object(dict.fromkeys(names, duration)),
        "batch_stats": _list(batch),
        "batching": _object(batching),
    }
    entry = {"name": _text(), "version": _text(), "reason": _text()}
    return {
        "Error": _object({"error": _text()}),
        "Document": {"type": "object"},
        "Live": _object({"live": {"type": "boolean"}}),
        "Ready": _object({"ready": {"type": "boolean"}}),
        "ModelReady": _object({"name": _text(), "ready": {"type": "boolean"}}),
        "ServerMetadata": _object({"name": _text(), "version": _text(), "extensions": texts}),
        "ModelMetadata": _object(
            {
                "name": _text(),
                "versions": texts,
                "platform": _text(),
                "inputs": infos,
                "outputs": infos,
                "parameters": _object({"revision": _text()}),
            }
        ),
        "Config": _object(
            {
                "name": _text(),
                "platform": _text(),
                "max_batch_size": _count(),
                "input": _list({"type": "object"}),
                "output": _list({"type": "object"}),
            }
        ),
        "Statistics": _object({"model_stats": _list(_object(statistics))}),
        "IndexRequest": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        "Index": _list(_object({**entry, "state": {"enum": ["READY", "UNAVAILABLE"]}})),
        **_inference_schemas(),
    }


def _inference_schemas() -> Json:
    shape = _list({"type": "integer", "minimum": 0})
    parameters = {"type": ["object", "null"]}
    name = {"type": "string", "maxLength": MAX_NAME}
    given = {"name": name, "datatype": {"enum": list(DTYPES)}, "shape": shape}
    answered = {"name": _text(), "datatype": {"enum": list(DTYPES)}, "shape": shape}
    optional = {"parameters": parameters, "data": {"type": "array"}}
    wanted = _object({"name": name}, {"parameters": parameters})
    return {
        "InferRequest": _object(
            {"inputs": _list(_object(given, optional))},
            {
                "id": {"type": ["string", "null"]},
                "parameters": parameters,
                "outputs": {"type": ["array", "null"], "items": wanted},
            },
        ),
        "InferResponse": _object(
            {
                "model_name": _text(),
                "model_version": _text(),
                "parameters": _object({"revision": _text()}),
                "outputs": _list(_object(answered, optional)),
            },
            {"id": _text()},
        ),
    }


def _object(required: Json, optional: Json | None = None) -> Json:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _text() -> Json:
    return {"type": "string"}


def _count() -> Json:
    return {"type": "integer", "minimum": 0}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
