"""The command line of the cluster."""

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from skerry_cluster import (
    cluster,
    containers,
    external,
    kwok,
    network,
    status,
    strangers,
    teardown,
    tools,
)
from skerry_cluster.command import ClusterError
from skerry_cluster.locks import alone
from skerry_cluster.node import Node
from skerry_cluster.progress import say, step
from skerry_cluster.settings import HOST_IP, Layout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start or repair the cluster")
    up.add_argument("--nodes", type=int, default=3, help="how many nodes (default 3)")
    up.add_argument("--kwok", action="store_true", help="also start KWOK")
    for verb, text in (
        ("down", "remove every trace of the cluster but the logs and the cache"),
        ("status", "show what runs"),
        ("verify-clean", "list what is left of a cluster; exit 1 if anything is"),
        ("kubeconfig", "print the path of the administrator's kubeconfig"),
        ("host-address", "print the address at which pods reach this machine"),
        ("tools", "build the programs if needed; print the folder they are in"),
    ):
        verbs.add_parser(verb, help=text)
    play = verbs.add_parser("kwok", help="fake nodes for tests at scale")
    play.add_argument("action", choices=["start", "stop"])
    play.add_argument("--stages", type=Path, help="file with KWOK Stage objects")
    _add_images(verbs.add_parser("images", help="build the images and load them into the nodes"))
    _add_device(verbs.add_parser("device", help="lose or regain a simulated accelerator"))
    _add_node(verbs.add_parser("node", help="make something fail on a node"))
    return parser


def _add_images(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        choices=["runtime", "operator", "runtime-openvino", "optimize", "tritonserver-python-test"],
        help="this one (default: the two that every cluster needs)",
    )
    which.add_argument("--all", action="store_true", help="also those that not every cluster needs")
    parser.add_argument("--print", action="store_true", help="only print the references as JSON")


def _add_device(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("lose", "regain"):
        actions.add_parser(name).add_argument("node")
    actions.add_parser("stop-plugin", help="end a device plugin's process").add_argument("node")
    start = actions.add_parser("start-plugin", help="start it, also under another resource")
    start.add_argument("node")
    start.add_argument("--resource", help="what the device is called now")
    serve = actions.add_parser("serve", help="(used by `up`) run the plugin of one node")
    for name in ("node", "resource"):
        serve.add_argument(name)
    serve.add_argument("lost", type=Path)


def _add_node(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("stop-kubelet", "start-kubelet", "cut", "heal", "reboot"):
        actions.add_parser(name).add_argument("node")
    kill = actions.add_parser("kill-container", help="SIGKILL a container's first process")
    for name in ("node", "namespace", "pod", "container"):
        kill.add_argument(name)


def _up(layout: Layout, args: argparse.Namespace) -> int:
    own = external.kubeconfig(layout)
    if own is not None:
        external.check(layout, own)
        return 0
    cluster.up(layout, args.nodes)
    if args.kwok:
        kwok.start(layout, None)
    return 0


def _down(layout: Layout, args: argparse.Namespace) -> int:
    del args
    if external.kubeconfig(layout) is not None:
        say("KUBECONFIG names a cluster of your own: it is left alone, and so is the local one")
        return 0
    strangers.refuse(layout)
    with step("taking the cluster down"):
        left = teardown.down(layout).lines()
    return _report(left)


def _verify_clean(layout: Layout, args: argparse.Namespace) -> int:
    del args
    return _report(teardown.find_leftovers(layout).lines())


def _report(left: list[str]) -> int:
    print("\n".join(left) if left else "clean")
    return 1 if left else 0


def _status(layout: Layout, args: argparse.Namespace) -> int:
    del args
    print(status.table(status.rows(layout)))
    return 0


def _kubeconfig(layout: Layout, args: argparse.Namespace) -> int:
    del args
    print(external.kubeconfig(layout) or layout.kubeconfig)
    return 0


def _host_address(layout: Layout, args: argparse.Namespace) -> int:
    del args
    print(external.host_address(layout, HOST_IP))
    return 0


def _tools(layout: Layout, args: argparse.Namespace) -> int:
    del args
    if external.kubeconfig(layout) is not None:
        print(external.programs(layout))
    else:
        print(tools.ensure(layout, tools.KUBERNETES)["kubectl"].parent)
    return 0


def _kwok(layout: Layout, args: argparse.Namespace) -> int:
    if args.action == "start":
        kwok.start(layout, args.stages)
    else:
        kwok.stop(layout)
    return 0


def _images(layout: Layout, args: argparse.Namespace) -> int:
    from skerry_cluster import images  # noqa: PLC0415 - only this verb needs it

    chosen = images.choose(args.only, everything=args.all)
    return images.command(layout, chosen, only_print=args.print)


def _device(layout: Layout, args: argparse.Namespace) -> int:
    if args.action == "serve":
        from skerry_cluster import device_plugin  # noqa: PLC0415 - the one verb that needs gRPC

        device_plugin.serve(args.node, args.resource, args.lost)
    node = cluster.find_node(layout, args.node)
    if node.spec.resource is None:
        raise ClusterError(f"{args.node} has no simulated device")
    if args.action in ("stop-plugin", "start-plugin"):
        return _device_plugin(node, args)
    mark = layout.device_lost(args.node)
    if args.action == "lose":
        mark.touch()
    else:
        mark.unlink(missing_ok=True)
    word = "lost" if args.action == "lose" else "back"
    say(f"{args.node}: its simulated {node.spec.resource} is {word}")
    return 0


def _device_plugin(node: Node, args: argparse.Namespace) -> int:
    if args.action == "start-plugin":
        cluster.start_device_plugin(node, args.resource)
        return 0
    was_running = node.stop_part("device-plugin")
    say(f"{args.node}: device plugin {'stopped' if was_running else 'was not running'}")
    return 0


def _node(layout: Layout, args: argparse.Namespace) -> int:
    node = cluster.find_node(layout, args.node)
    say(f"{args.node}: {_NODE_ACTIONS[args.action](node, args)}")
    return 0


def _stop_kubelet(node: Node, args: argparse.Namespace) -> str:
    del args
    return "kubelet stopped" if node.stop_part("kubelet") else "kubelet was not running"


def _start_kubelet(node: Node, args: argparse.Namespace) -> str:
    del args
    node.start_kubelet(tools.ensure(node.layout, tools.KUBERNETES)["kubelet"])
    return "kubelet runs"


def _cut(node: Node, args: argparse.Namespace) -> str:
    del args
    network.cut_from_api(node.spec)
    return "does not reach the API server; its pods reach what they did"


def _heal(node: Node, args: argparse.Namespace) -> str:
    del args
    network.heal(node.spec)
    return "reaches the API server"


def _reboot(node: Node, args: argparse.Namespace) -> str:
    node.stop_part("kubelet")
    ended = containers.kill_all(node)
    _start_kubelet(node, args)
    return f"{ended} containers ended, kubelet started again"


def _kill_container(node: Node, args: argparse.Namespace) -> str:
    pid = containers.kill(node, args.namespace, args.pod, args.container)
    return f"killed {args.namespace}/{args.pod} {args.container} (process {pid})"


_NODE_ACTIONS = {
    "stop-kubelet": _stop_kubelet,
    "start-kubelet": _start_kubelet,
    "cut": _cut,
    "heal": _heal,
    "reboot": _reboot,
    "kill-container": _kill_container,
}


_VERBS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "verify-clean": _verify_clean,
    "kubeconfig": _kubeconfig,
    "host-address": _host_address,
    "tools": _tools,
    "kwok": _kwok,
    "images": _images,
    "device": _device,
    "node": _node,
}


def _spoils_others(args: argparse.Namespace) -> bool:
    """Say whether two such runs would spoil each other's work."""
    return args.verb in ("up", "down") or (args.verb == "images" and not args.print)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; return the exit status."""
    args = _parser().parse_args(argv)
    # Some shells of root lack the folders of system programs.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    layout = Layout.from_environment()
    try:
        with alone(layout.cache / "lock") if _spoils_others(args) else nullcontext():
            return _VERBS[args.verb](layout, args)
    except (ClusterError, OSError, ValueError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
