"""Tells tools such as grpcurl what services there are, and their messages.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. Version v1alpha has the messages
of v1 under another name; older tools know no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from skerry_runtime.rpc.generated import health_pb2, oip_pb2, reflection_pb2
from skerry_runtime.rpc.generated.reflection_pb2 import ServerReflectionRequest as Question
from skerry_runtime.rpc.generated.reflection_pb2 import ServerReflectionResponse as Told

SERVICES = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

_NOT_FOUND, _UNIMPLEMENTED = (
    status.value[0] for status in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
)


class Catalogue:
    """The protocols of this server, by the names of their files and of what is in them."""

    def __init__(self) -> None:
        files: list[Any] = [each.DESCRIPTOR for each in (oip_pb2, health_pb2, reflection_pb2)]
        self._by_file = {file.name: file.serialized_pb for file in files}
        self._by_symbol = {name: file.serialized_pb for file in files for name in _symbols(file)}
        services = [each for file in files for each in file.services_by_name.values()]
        self._services = sorted(service.full_name for service in services)

    def answer(self, question: Question) -> Told:
        """Answer one question; what is not there is told, and the next may follow."""
        told = Told(valid_host=question.host, original_request=question)
        match question.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    told.list_services_response.service.add(name=name)
            case "file_by_filename":
                _tell(told, self._by_file.get(question.file_by_filename))
            case "file_containing_symbol":
                _tell(told, self._by_symbol.get(question.file_containing_symbol))
            case "all_extension_numbers_of_type":
                self._tell_extensions(told, question.all_extension_numbers_of_type)
            case "file_containing_extension":
                _tell(told, None)
            case _:
                _refuse(told, _UNIMPLEMENTED, "nothing was asked that is known here")
        return told

    def _tell_extensions(self, told: Told, name: str) -> None:
        """Protocols of this version have none, but the type must be there."""
        if name in self._by_symbol:
            told.all_extension_numbers_response.base_type_name = name
        else:
            _tell(told, None)


def _tell(told: Told, file: bytes | None) -> None:
    if file is None:
        _refuse(told, _NOT_FOUND, "there is no such thing here")
    else:
        told.file_descriptor_response.file_descriptor_proto.append(file)


def _refuse(told: Told, code: int, text: str) -> None:
    told.error_response.error_code = code
    told.error_response.error_message = text


def _symbols(file: Any) -> Iterator[str]:
    """Yield the full name of everything in a file."""
    yield from _names(file.message_types_by_name.values())
    for enum in file.enum_types_by_name.values():
        yield enum.full_name
    for service in file.services_by_name.values():
        yield service.full_name
        for method in service.methods:
            yield method.full_name


def _names(messages: Iterable[Any]) -> Iterator[str]:
    for message in messages:
        yield message.full_name
        for enum in message.enum_types:
            yield enum.full_name
        yield from _names(message.nested_types)
