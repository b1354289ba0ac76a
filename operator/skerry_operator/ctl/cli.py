"""See how models are deployed, and steer their rollouts."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from typing_extensions import override

from skerry_operator.api.quantity import duration_s
from skerry_operator.clock import SystemClock
from skerry_operator.ctl import builds, commands, files, infer, layers, push, resolve, vouch
from skerry_operator.ctl.answer import MEANINGS, Answer, Declined, Exit
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.follow import Following
from skerry_operator.ctl.known import USUAL_PLACE
from skerry_operator.ctl.registry import RegistryWish
from skerry_operator.ctl.table import printable
from skerry_operator.kube.access import open_access
from skerry_operator.kube.errors import Forbidden, KubeError, Unavailable

_REMEDIES: Mapping[type[Exception], str] = {
    Forbidden: "log in, or ask for the right to do so",
    Unavailable: "does the API server answer? `kubectl cluster-info` tells",
}
"""What to do about an error that does not say so itself."""

CLOSED_PIPE = 141
"""Exit status when nobody reads any longer: what a shell gives a program that SIGPIPE ended."""

PLUGIN = "kubectl-skerry"
"""Name under which kubectl finds this program."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    program = "kubectl skerry" if Path(sys.argv[0]).name == PLUGIN else "skerry"
    try:
        return _run(program, vars(parser(program).parse_args(arguments)))
    except BrokenPipeError:  # `| head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more at the exit
        return CLOSED_PIPE


def _run(program: str, options: Mapping[str, Any]) -> int:
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


def _events(options: Mapping[str, Any]) -> Answer:
    return commands.events(_cluster(options), options["name"], json=options["output"] == "json")


def _history(options: Mapping[str, Any]) -> Answer:
    return commands.history(_cluster(options), options["name"], json=options["output"] == "json")


def _promote(options: Mapping[str, Any]) -> Answer:
    return commands.promote(_cluster(options), options["name"], options["revision"])


def _abort(options: Mapping[str, Any]) -> Answer:
    return commands.abort(_cluster(options), options["name"], options["revision"])


def _retry(options: Mapping[str, Any]) -> Answer:
    return commands.retry(
        _cluster(options),
        options["name"],
        options["text"],
        SystemClock().now(),
        clear_abort=options["clear_abort"],
    )


def _upgrade(options: Mapping[str, Any]) -> Answer:
    return commands.upgrade(_cluster(options), options["name"])


def _pause(options: Mapping[str, Any]) -> Answer:
    return commands.set_paused(_cluster(options), options["name"], paused=True)


def _resume(options: Mapping[str, Any]) -> Answer:
    return commands.set_paused(_cluster(options), options["name"], paused=False)


def _validate(options: Mapping[str, Any]) -> Answer:
    cluster = _cluster(options) if options["server"] else None
    return files.validate(options["files"], cluster, json=options["output"] == "json")


def _plan(options: Mapping[str, Any]) -> Answer:
    wish = files.PlanWish(
        options["nodes"],
        options["profiles"],
        options["runtime_image"],
        options["operator"],
        options.get("namespace"),
    )
    cluster = None if wish.nodes else _cluster(options)
    is_json = options["output"] == "json"
    return files.plan(options["files"], wish, cluster, SystemClock().now(), json=is_json)


def _infer(options: Mapping[str, Any]) -> Answer:
    fields = ("name", "file", "service", "url", "token_file", "ca_file")
    wish = infer.InferWish(**{field: options[field] for field in fields})
    return infer.infer(_cluster(options), wish, json=options["output"] == "json")


def _resolve(options: Mapping[str, Any]) -> Answer:
    if options["uri"].startswith("oci:"):
        return layers.resolve_layer(_registry(options), json=options["output"] == "json")
    fields = ("uri", "endpoint", "token_file")
    wish = resolve.ResolveWish(**{field: options[field] for field in fields})
    return resolve.resolve(wish, json=options["output"] == "json")


def _sign(options: Mapping[str, Any]) -> Answer:
    wish = vouch.SignWish(options["model"], options["key"], options["out"])
    return vouch.sign(wish, json=options["output"] == "json")


def _verify(options: Mapping[str, Any]) -> Answer:
    keys = tuple(options["keys"])
    wish = vouch.VerifyWish(options["model"], keys, options["bundle"], options["main"])
    return vouch.verify(wish, json=options["output"] == "json")


def _seal(options: Mapping[str, Any]) -> Answer:
    wish = vouch.SealWish(options["file"], tuple(options["recipients"]), options["out"])
    return vouch.seal(wish, json=options["output"] == "json")


def _push(options: Mapping[str, Any]) -> Answer:
    wish = push.PushWish(options["file"], _registry(options), options["key"])
    return push.push(wish, json=options["output"] == "json")


def _registry(options: Mapping[str, Any]) -> RegistryWish:
    return RegistryWish(options["uri"], options["config"], options["plain_http"])


def _optimize(options: Mapping[str, Any]) -> Answer:
    cluster, name = _cluster(options), options["name"]
    if not options["watch"]:
        return builds.builds_status(cluster, name, json=options["output"] == "json")
    if options["output"] == "json":
        raise Declined("-w and -o json exclude each other: leave one out")
    return builds.watch_builds(cluster, name, _say, _watch(options["timeout"]))


_COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
    "status": _status,
    "events": _events,
    "history": _history,
    "promote": _promote,
    "abort": _abort,
    "retry": _retry,
    "upgrade": _upgrade,
    "pause": _pause,
    "resume": _resume,
    "validate": _validate,
    "plan": _plan,
    "infer": _infer,
    "resolve": _resolve,
    "sign": _sign,
    "verify": _verify,
    "seal": _seal,
    "push": _push,
    "optimize": _optimize,
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
    _add_trust(verbs, shared)
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
    told = _verb(verbs, shared, "events", "what happened to a deployment and its pods, in order")
    told.add_argument("name", metavar="NAME", help="the EdgeDeployment")
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
    made = _verb(verbs, shared, "optimize", "the builds that are made of a model")
    shown = _verb(made.add_subparsers(required=True), shared, "status", "how builds are, and why")
    shown.add_argument("name", metavar="NAME", help="the EdgeModel")
    shown.add_argument("-w", "--watch", action="store_true", help="follow until none is under way")
    shown.add_argument("--timeout", metavar="DURATION", help="end of -w, for example 2h")
    for verb in (status, history, told, sent, shown):
        _add_output(verb)


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", choices=("text", "json"), default="text")


def _add_steering(verbs: Any, shared: argparse.ArgumentParser) -> None:
    texts = {
        "promote": "let a rollout that waits for a person go on",
        "abort": "end a rollout; stable comes back",
        "retry": "try a revision again that failed",
        "upgrade": "roll the operator's present runtime images out to a deployment",
        "pause": "start nothing new",
        "resume": "the contrary of pause",
    }
    made = {name: _verb(verbs, shared, name, text) for name, text in texts.items()}
    for verb in made.values():
        verb.add_argument("name", metavar="NAME", help="the EdgeDeployment")
    for name in ("promote", "abort"):
        made[name].add_argument("--revision", metavar="R", help="refuse when it is another one")
    made["retry"].add_argument("text", nargs="?", metavar="TEXT", help="default: the time")
    made["retry"].add_argument(
        "--clear-abort", action="store_true", help="also let a revision start that was aborted"
    )


def _add_files(verbs: Any, shared: argparse.ArgumentParser) -> None:
    validate = _verb(verbs, shared, "validate", "check manifests strictly, without a cluster")
    validate.add_argument("--server", action="store_true", help="let the API server check them too")
    plan = _verb(verbs, shared, "plan", "what the operator would make of manifests")
    plan.add_argument("--nodes", metavar="FILE", help="`kubectl get nodes -o yaml`: no cluster")
    plan.add_argument("--profiles", metavar="FILE", help="the chart's `accelerators`, a YAML list")
    plan.add_argument("--runtime-image", metavar="IMAGE", help="the operator's default image")
    plan.add_argument(
        "--operator", metavar="NAMESPACE/NAME",
        help=f"ConfigMap with the operator's settings; default: {USUAL_PLACE}",
    )  # fmt: skip
    pinned = _verb(verbs, shared, "resolve", "the finished source of a file, pinned for ever")
    pinned.add_argument(
        "uri", metavar="URI",
        help="hf://ORG/REPO/FILE, or @BRANCH after it; oci://REGISTRY/REPOSITORY:TAG",
    )  # fmt: skip
    pinned.add_argument("--endpoint", metavar="URL", default=resolve.HUB, help="the hub to ask")
    pinned.add_argument("--token-file", metavar="FILE", help="token for a gated repository")
    pushed = _verb(verbs, shared, "push", "push a model file to a registry")
    pushed.add_argument("file", metavar="FILE", help="the model")
    pushed.add_argument("uri", metavar="URI", help="oci://REGISTRY/REPOSITORY:TAG")
    pushed.add_argument("--key", metavar="FILE", help="private key to sign the model with")
    for verb in (pinned, pushed):
        _add_registry(verb)
        _add_output(verb)
    for verb in (validate, plan):
        _add_output(verb)
        verb.add_argument(
            "-f", "--file", dest="files", metavar="FILE", nargs="+", action="extend", required=True,
            help="manifests in YAML or JSON; - is the standard input",
        )  # fmt: skip


def _add_trust(verbs: Any, shared: argparse.ArgumentParser) -> None:
    sign = _verb(verbs, shared, "sign", "write a signature bundle for a model")
    sign.add_argument("--key", required=True, metavar="FILE", help="private key, PEM")
    sign.add_argument("--out", metavar="FILE", help="default: MODEL.sig")
    verify = _verb(verbs, shared, "verify", "whose key vouches for a model")
    verify.add_argument(
        "--key", dest="keys", metavar="FILE", nargs="+", action="extend", required=True,
        help="public keys, PEM",
    )  # fmt: skip
    verify.add_argument("--bundle", metavar="FILE", help="default: MODEL.sig")
    verify.add_argument(
        "--main", metavar="NAME", help="of a folder: the file that source.uri names"
    )
    for verb in (sign, verify):
        verb.add_argument("model", metavar="MODEL", help="a file, or the folder of several")
        _add_output(verb)
    seal = _verb(verbs, shared, "seal", "encrypt a model for the pods of a site")
    seal.add_argument(
        "-r", "--recipient", dest="recipients", metavar="AGE1…", action="append", required=True,
        help="who may read it, as `age-keygen -y` prints it; several: any of them",
    )  # fmt: skip
    seal.add_argument("--out", metavar="FILE", help="default: FILE.age")
    seal.add_argument("file", metavar="FILE", help="the model")
    _add_output(seal)


def _add_registry(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--config", metavar="FILE", help="file of docker login; default: ~/.docker/config.json"
    )
    verb.add_argument(
        "--plain-http", action="store_true", help="the registry speaks http, in the clear"
    )


def _verb(
    verbs: Any, shared: argparse.ArgumentParser, name: str, text: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", parents=[shared]
    )
    return made
