"""Settings from the environment and from flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from skerry_runtime import contract
from skerry_runtime.cli import main
from skerry_runtime.settings import cgroup_cpu_quota, settings_from


def test_the_contract_s_variables_are_read() -> None:
    settings = settings_from(
        {
            contract.ENV_UNIT: "node-7",
            "SKERRY_MODEL_NAME": "digits",
            contract.ENV_HTTP_PORT: "1",
            contract.ENV_GRPC_PORT: "2",
        },
        {},
    )
    assert (settings.unit, settings.model_name) == ("node-7", "digits")
    assert (settings.http_port, settings.grpc_port) == (1, 2)
    assert settings.admin_port == contract.ADMIN_PORT


def test_a_flag_wins_over_the_environment_and_an_empty_variable_is_none() -> None:
    settings = settings_from({"SKERRY_UNIT": "env", "SKERRY_THREADS": ""}, {"unit": "flag"})
    assert (settings.unit, settings.threads) == ("flag", 1)


@pytest.mark.parametrize("text", ["70000", "-1", "http"])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        settings_from({"SKERRY_HTTP_PORT": text}, {})


def test_a_bad_setting_ends_the_program_with_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--http-port", "many"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("skerry-runtime: http_port: ")


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({"cpu.max": "150000 100000\n"}, 1.5, id="version 2 with a limit"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="version 2 without one"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
            2.0,
            id="version 1 with a limit",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
            id="version 1 without one",
        ),
        pytest.param({}, None, id="no cgroup at all"),
        pytest.param({"cpu.max": "1 0"}, None, id="a period of nothing"),
    ],
)
def test_the_cpu_limit_is_read_from(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_cpu_quota(tmp_path) == quota
