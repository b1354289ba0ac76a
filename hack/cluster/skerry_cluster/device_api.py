"""kubelet's device plugin API, v1beta1: the messages that a plugin needs.

The API is defined by k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1. The message types are made
from the table below, so that nothing has to be generated.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "v1beta1"
VERSION = "v1beta1"
HEALTHY = "Healthy"
UNHEALTHY = "Unhealthy"
REGISTER = f"/{PACKAGE}.Registration/Register"
SERVICE = f"{PACKAGE}.DevicePlugin"

_Field = descriptor_pb2.FieldDescriptorProto
_TABLE: dict[str, list[tuple[str, int, str]]] = {
    "Empty": [],
    "DevicePluginOptions": [
        ("pre_start_required", 1, "bool"),
        ("get_preferred_allocation_available", 2, "bool"),
    ],
    "RegisterRequest": [
        ("version", 1, "string"),
        ("endpoint", 2, "string"),
        ("resource_name", 3, "string"),
        ("options", 4, "DevicePluginOptions"),
    ],
    "Device": [("ID", 1, "string"), ("health", 2, "string")],
    "ListAndWatchResponse": [("devices", 1, "repeated Device")],
    "PreStartContainerRequest": [("devices_ids", 1, "repeated string")],
    "PreStartContainerResponse": [],
    "PreferredAllocationRequest": [],
    "PreferredAllocationResponse": [],
    "ContainerAllocateRequest": [("devices_ids", 1, "repeated string")],
    "AllocateRequest": [("container_requests", 1, "repeated ContainerAllocateRequest")],
    "ContainerAllocateResponse": [("envs", 1, "map")],
    "AllocateResponse": [("container_responses", 1, "repeated ContainerAllocateResponse")],
}
"""Message -> its fields: name, number, type. `map` is a map of strings."""


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    repeated = kind.startswith("repeated ") or kind == "map"
    kind = kind.removeprefix("repeated ")
    field = message.field.add(name=name, number=number)
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if kind in ("string", "bool"):
        field.type = _Field.TYPE_STRING if kind == "string" else _Field.TYPE_BOOL
        return
    field.type = _Field.TYPE_MESSAGE
    if kind == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, "string")
        kind = f"{message.name}.{entry.name}"
    field.type_name = f".{PACKAGE}.{kind}"


def _make_messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="skerry_device_plugin.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _TABLE.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _TABLE
    }


MESSAGES = _make_messages()
"""Message class by name."""
