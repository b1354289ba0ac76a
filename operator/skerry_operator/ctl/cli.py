"""See how models are deployed, and steer their rollouts."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from typing_extensions import override

from skerry_operator.api.quantity import duration_s
from skerry_operator.clock import SystemClock
from skerry_operator.ctl import commands, files, infer
from skerry_operator.ctl.answer import MEANINGS, Answer, Declined, Exit
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.follow import Following
from skerry_operator.ctl.table import printable
from skerry_operator.kube.access import open_access
from skerry_operator.kube.errors import Forbidden, KubeError, Unavailable

_REMEDIES: Mapping[type[Exception], str] = {
    Forbidden: "log in, or ask for the right to do so",
    Unavailable: "does the API server answer? `kubectl cluster-info` tells",
}
"""What to do about an error that does not say so itself."""

PLUGIN = "kubectl-skerry"
"""Name under which kubectl finds this program."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    program = "kubectl skerry" if Path(sys.argv[0]).name == PLUGIN else "skerry"
    options = vars(parser(program).parse_args(arguments))
    try:
        answer = _COMMANDS[options["command"]](options)
    except (Declined, KubeError) as error:
        _say(f"{program}: {_one_line(error)}", sys.stderr)
        return Exit.REFUSED
    except KeyboardInterrupt:
        return Exit.TIMED_OUT
    _say(answer.text)
    return answer.code


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    remedies = (remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind))
    return ": ".join((text, *remedies))


def _cluster(options: Mapping[str, Any]) -> Cluster:
    access = open_access(options.get("kubeconfig"), options.get("context"))
    return Cluster(access, options.get("namespace") or access.namespace)


def _status(options: Mapping[str, Any]) -> Answer:
    cluster, name = _cluster(options), options["name"]
    if not options["watch"]:
        return commands.status(cluster, name, json=options["output"] == "json")
    if options["output"] == "json":
        raise Declined("-w and -o json exclude each other: leave one out")
    return commands.watch(cluster, name, _say, _watch(options["timeout"]))


def _watch(timeout: str | None) -> Following:
    try:
        limit = None if timeout is None else duration_s(timeout)
    except ValueError as error:
        raise Declined(f"--timeout: {error}") from error
    return Following(time.monotonic, time.sleep, limit)


def _say(text: str, to: TextIO | None = None) -> None:
    """Print: the one way to the terminal."""
    print(printable(text), file=to, flush=True)


def _history(options: Mapping[str, Any]) -> Answer:
    return commands.history(_cluster(options), options["name"], json=options["output"] == "json")


def _promote(options: Mapping[str, Any]) -> Answer:
    return commands.promote(_cluster(options), options["name"], options["revision"])


def _abort(options: Mapping[str, Any]) -> Answer:
    return commands.abort(_cluster(options), options["name"], options["revision"])


def _retry(options: Mapping[str, Any]) -> Answer:
    return commands.retry(_cluster(options), options["name"], options["text"], SystemClock().now())


def _pause(options: Mapping[str, Any]) -> Answer:
    return commands.set_paused(_cluster(options), options["name"], paused=True)


def _resume(options: Mapping[str, Any]) -> Answer:
    return commands.set_paused(_cluster(options), options["name"], paused=False)


def _validate(options: Mapping[str, Any]) -> Answer:
    cluster = _cluster(options) if options["server"] else None
    return files.validate(options["files"], cluster, json=options["output"] == "json")


def _plan(options: Mapping[str, Any]) -> Answer:
    wish = files.PlanWish(
        options["nodes"], options["profiles"], options["runtime_image"], options.get("namespace")
    )
    cluster = None if wish.nodes else _cluster(options)
    is_json = options["output"] == "json"
    return files.plan(options["files"], wish, cluster, SystemClock().now(), json=is_json)


def _infer(options: Mapping[str, Any]) -> Answer:
    fields = ("name", "file", "service", "url", "token_file", "ca_file")
    wish = infer.InferWish(**{field: options[field] for field in fields})
    return infer.infer(_cluster(options), wish, json=options["output"] == "json")


_COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
    "status": _status,
    "history": _history,
    "promote": _promote,
    "abort": _abort,
    "retry": _retry,
    "pause": _pause,
    "resume": _resume,
    "validate": _validate,
    "plan": _plan,
    "infer": _infer,
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the exit status of every refusal."""

    @override
    def error(self, message: str) -> NoReturn:
        self.exit(Exit.REFUSED, f"{self.prog}: {message}: see `{self.prog} --help`\n")


def parser(program: str = "skerry") -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    shared = _global_options()
    whole = _Parser(
        prog=program,
        description=__doc__,
        epilog=_exit_statuses(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    verbs = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_readers(verbs, shared)
    _add_steering(verbs, shared)
    _add_files(verbs, shared)
    return whole


def _global_options() -> argparse.ArgumentParser:
    """Return the options that stand before or after the command."""
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config")
    shared.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
    shared.add_argument("-n", "--namespace", help="default: the one of the context")
    return shared


def _exit_statuses() -> str:
    lines = (f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())
    return "\n".join(("exit status:", *lines))


def _add_readers(verbs: Any, shared: argparse.ArgumentParser) -> None:
    status = _verb(verbs, shared, "status", "how a deployment is, and why")
    status.add_argument("name", metavar="NAME", help="the EdgeDeployment")
    status.add_argument("-w", "--watch", action="store_true", help="follow until the rollout ends")
    status.add_argument("--timeout", metavar="DURATION", help="end of -w, for example 10m")
    history = _verb(verbs, shared, "history", "what was stable and what failed")
    history.add_argument("name", metavar="NAME", help="the EdgeDeployment")
    sent = _verb(verbs, shared, "infer", "send one request to a deployment's pods")
    sent.add_argument("name", metavar="NAME", help="the EdgeDeployment")
    sent.add_argument(
        "-f", "--file", required=True, metavar="FILE",
        help="request of the Open Inference Protocol in JSON, or .npz with one array per input",
    )  # fmt: skip
    services = ("stable", "canary")
    sent.add_argument("--service", choices=services, help="only pods with that revision")
    sent.add_argument("--url", metavar="URL", help="serving address; default: by the API server")
    sent.add_argument("--token-file", metavar="FILE", help="bearer token for --url")
    sent.add_argument("--ca-file", metavar="FILE", help="certificates that --url is trusted by")
    for verb in (status, history, sent):
        _add_output(verb)


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", choices=("text", "json"), default="text")


def _add_steering(verbs: Any, shared: argparse.ArgumentParser) -> None:
    texts = {
        "promote": "let a rollout that waits for a person go on",
        "abort": "end a rollout; stable comes back",
        "retry": "try a revision again that failed",
        "pause": "start nothing new",
        "resume": "the contrary of pause",
    }
    made = {name: _verb(verbs, shared, name, text) for name, text in texts.items()}
    for verb in made.values():
        verb.add_argument("name", metavar="NAME", help="the EdgeDeployment")
    for name in ("promote", "abort"):
        made[name].add_argument("--revision", metavar="R", help="refuse when it is another one")
    made["retry"].add_argument("text", nargs="?", metavar="TEXT", help="default: the time")


def _add_files(verbs: Any, shared: argparse.ArgumentParser) -> None:
    validate = _verb(verbs, shared, "validate", "check manifests strictly, without a cluster")
    validate.add_argument("--server", action="store_true", help="let the API server check them too")
    plan = _verb(verbs, shared, "plan", "what the operator would make of manifests")
    plan.add_argument("--nodes", metavar="FILE", help="`kubectl get nodes -o yaml`: no cluster")
    plan.add_argument("--profiles", metavar="FILE", help="the chart's `accelerators`, a YAML list")
    plan.add_argument("--runtime-image", metavar="IMAGE", help="the operator's default image")
    for verb in (validate, plan):
        _add_output(verb)
        verb.add_argument(
            "-f", "--file", dest="files", metavar="FILE", nargs="+", action="extend", required=True,
            help="manifests in YAML or JSON; - is the standard input",
        )  # fmt: skip


def _verb(
    verbs: Any, shared: argparse.ArgumentParser, name: str, text: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", parents=[shared]
    )
    return made
