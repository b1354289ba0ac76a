"""A Kubernetes API server with nothing around it: for tests that own the whole cluster.

Two processes, kine on SQLite and kube-apiserver, up in seconds; no nodes and no controllers.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from ssl import create_default_context

from binaries import find
from ports import free_port

CRDS = Path(__file__).parents[1] / "crds"
Kubectl = Callable[..., str]
TOKEN = "tests"  # noqa: S105 (of a server that only this process can reach)
OPERATOR_TOKEN = "operator"  # noqa: S105 (the same server)
OPERATOR = "operator"
"""User name by which an audit log tells the operator from the tests."""
_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: bare
contexts: [{{name: bare, context: {{cluster: bare, user: admin}}}}]
clusters: [{{name: bare, cluster: {{server: "{server}", certificate-authority: {ca}}}}}]
users: [{{name: admin, user: {{token: {token}}}}}]
"""


@contextlib.contextmanager
def bare_api(folder: Path, *flags: str) -> Iterator[Path]:
    """Start an API server with its files in `folder`; yield the administrator's kubeconfig.

    `flags` are more arguments of the API server. Beside the administrator there is the user
    OPERATOR with the same rights, and a kubeconfig for it: `operator_kubeconfig`.
    """
    server = f"https://127.0.0.1:{free_port()}"
    subprocess.run(["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"], check=True,
                   capture_output=True)  # fmt: skip
    users = ((TOKEN, "admin"), (OPERATOR_TOKEN, OPERATOR))
    rows = [f"{token},{name},{name},system:masters\n" for token, name in users]
    (folder / "tokens.csv").write_text("".join(rows))
    with contextlib.ExitStack() as processes:
        processes.enter_context(running(folder, "kine", _kine(folder)))
        _wait((folder / "kine.sock").exists, folder / "kine.log")
        arguments = [*_api(folder, server), *flags]
        processes.enter_context(running(folder, "kube-apiserver", arguments))
        _wait(lambda: _is_ready(server, folder), folder / "kube-apiserver.log")
        kubeconfig = folder / "kubeconfig"
        ca = folder / "certs" / "apiserver.crt"
        kubeconfig.write_text(_KUBECONFIG.format(server=server, ca=ca, token=TOKEN))
        as_operator = _KUBECONFIG.format(server=server, ca=ca, token=OPERATOR_TOKEN)
        operator_kubeconfig(kubeconfig).write_text(as_operator)
        yield kubeconfig


def operator_kubeconfig(kubeconfig: Path) -> Path:
    """Return the kubeconfig of the user OPERATOR, beside the administrator's."""
    return kubeconfig.with_name("operator.kubeconfig")


def kubectl_of(kubeconfig: Path) -> Kubectl:
    """Return a function that runs kubectl and returns what it prints."""

    def kubectl(*arguments: str, stdin: str = "") -> str:
        argv = [find("kubectl"), f"--kubeconfig={kubeconfig}", *arguments]
        answer = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, f"{arguments}: {answer.stderr}"
        return answer.stdout

    return kubectl


def install_crds(kubeconfig: Path) -> None:
    """Install or update our CRDs, and wait until the API server speaks them."""
    kubectl = kubectl_of(kubeconfig)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    names = [f"crd/{name}.skerry.dev" for name in ("edgemodels", "edgedeployments")]
    kubectl("wait", "--for=condition=Established", "--timeout=120s", *names)


def _kine(folder: Path) -> list[str]:
    return [
        f"--endpoint=sqlite://{folder}/state.db?_journal=WAL&cache=shared",
        f"--listen-address=unix://{folder}/kine.sock",
        "--metrics-bind-address=0",
    ]


def _api(folder: Path, server: str) -> list[str]:
    return [
        f"--etcd-servers=unix://{folder}/kine.sock",
        "--bind-address=127.0.0.1",
        f"--secure-port={server.rsplit(':', 1)[1]}",
        f"--cert-dir={folder}/certs",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/sa.key",
        f"--service-account-signing-key-file={folder}/sa.key",
        "--service-cluster-ip-range=10.250.0.0/24",
        "--disable-admission-plugins=ServiceAccount",  # nothing here makes the accounts
    ]


@contextlib.contextmanager
def running(folder: Path, program: str, arguments: list[str]) -> Iterator[None]:
    """Run a program with its log in `folder`; end it."""
    with (folder / f"{program}.log").open("w") as log:
        process = subprocess.Popen([find(program), *arguments], stdout=log, stderr=log, cwd=folder)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(server: str, folder: Path) -> bool:
    ca = folder / "certs" / "apiserver.crt"
    request = urllib.request.Request(
        f"{server}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        context = create_default_context(cafile=str(ca))
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _wait(condition: Callable[[], bool], log: Path, limit_s: float = 180) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{log.name}: {log.read_text()[-2000:]}")
        time.sleep(0.1)
