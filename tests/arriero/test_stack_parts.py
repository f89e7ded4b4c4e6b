"""The parts of `arriero up` that decide, without starting anything."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from arriero.settings import StackSettings, state_dir
from arriero.stack import farewell, ports
from arriero.stack.child import LISTENING, describe_exit
from arriero.stack.plan import STOP_GATEWAY, STOP_WORKERS, service_plans, without_ollama_urls
from arriero.stack.redis_server import server_command
from arriero.stack.restarts import RestartBudget
from arriero.stack.runfile import (
    RunFile,
    close_to_others,
    lock_is_held,
    read_run_file,
    running_stack,
    take_lock,
    without_password,
    write_run_file,
)


def settings(**values: object) -> StackSettings:
    return StackSettings.model_validate(values)


def test_five_restarts_a_minute_and_no_more() -> None:
    budget = RestartBudget()
    assert [budget.take(float(second)) for second in range(6)] == [True] * 5 + [False]
    assert not budget.take(59.9)
    assert budget.take(60.1), "the first of the five is a minute ago"
    assert not budget.take(60.2)


def test_only_the_first_worker_has_the_well_known_port() -> None:
    plans = service_plans(settings(worker_port=3008), "", ["http://h:1"], 3)
    workers = [plan for plan in plans if plan.name.startswith("worker")]
    assert [(plan.name, plan.environment["WORKER_PORT"]) for plan in workers] == [
        ("worker-1", "3008"),
        ("worker-2", "0"),
        ("worker-3", "0"),
    ]
    assert len({plan.environment["WORKER_ID"] for plan in workers}) == 3


@pytest.mark.req("S2-18")
def test_services_are_told_of_ollama_hosts_only_where_some_were_chosen() -> None:
    chosen, left = (
        service_plans(settings(), "", urls, 1)[0].environment for urls in (["http://h:1", "http://i:1"], [])
    )
    assert (chosen["OLLAMA_BASE_URLS"], chosen["OLLAMA_URL"]) == ("http://h:1,http://i:1", "")
    assert not [name for name in left if name.startswith("OLLAMA") or name == "SERVICES"]


@pytest.mark.parametrize(
    "written",
    [
        {"ollama": {"urls": ["http://gpu:1"], "verify_cert": "false"}, "jan": None},
        '{"ollama": {"base_url": "http://gpu:1", "verify_cert": "false"}, "jan": {}}',
    ],
)
def test_the_simulator_takes_the_place_of_the_hosts_in_services(written: object) -> None:
    services = json.loads(without_ollama_urls(written))
    assert services["ollama"] == {"name": "ollama", "verify_cert": "false"}
    assert "jan" in services
    plan = service_plans(settings(), "", ["http://127.0.0.1:1"], 1, json.dumps(services))[0]
    assert json.loads(plan.environment["SERVICES"]) == services


def test_the_gateway_stops_before_the_workers() -> None:
    ranks = {plan.name: plan.stop_rank for plan in service_plans(settings(), "", [], 1)}
    assert ranks["gateway"] == STOP_GATEWAY == min(ranks.values())
    assert ranks["manager"] > STOP_WORKERS


def test_credentials_of_another_redis_do_not_reach_ours() -> None:
    for plan in service_plans(settings(redis_password="secret"), "redis://127.0.0.1:1/9", [], 1):
        assert plan.environment["REDIS_URL"] == "redis://127.0.0.1:1/9"
        assert plan.environment["REDIS_PASSWORD"] == ""
    assert "REDIS_URL" not in service_plans(settings(), "", [], 1)[0].environment


def test_a_configured_log_format_stays() -> None:
    assert service_plans(settings(log_format=""), "", [], 1)[0].environment["LOG_FORMAT"] == "console"
    assert "LOG_FORMAT" not in service_plans(settings(log_format="json"), "", [], 1)[0].environment


def test_redis_keeps_what_it_accepted() -> None:
    command = server_command("valkey-server", 6379, Path("/data"))
    told = dict(zip(command[1::2], command[2::2], strict=True))
    assert told["--appendonly"] == "yes"
    assert told["--appendfsync"] == "everysec"
    assert told["--maxmemory-policy"] == "noeviction"
    assert told["--bind"] == "127.0.0.1"


def test_where_a_service_listens_is_read_from_its_line() -> None:
    found = LISTENING.search("gateway listening on http://[::1]:8000")
    assert found is not None
    assert found[1] == "http://[::1]:8000"


def test_exits_in_words() -> None:
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(78) == "exit status 78"
    assert describe_exit(-200) == "killed by signal 200"


def test_the_last_words_tell_of_the_key_only_where_one_is_needed() -> None:
    run = RunFile(up_pid=1, gateway_url="http://127.0.0.1:8000", pids={"gateway": 2, "worker-1": 31, "worker-2": 32})
    without = "\n".join(farewell.lines(run, "llama3.2", "arriero", 3.2))
    assert "kill -9 31" in without
    assert "worker-1 pid 31, worker-2 pid 32" in without
    assert "authorization" not in without
    assert 'authorization: Bearer $ARRIERO_API_KEY"' in "\n".join(
        farewell.lines(run, "m", "arriero", 1, needs_key=True)
    )


def test_free_ports() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.preferred_or_free(port) != port
    assert ports.is_free(port)


def test_the_simulator_takes_the_place_of_a_local_ollama_only() -> None:
    assert ports.local_port("http://localhost:12345") == 12345
    assert ports.local_port("http://127.0.0.1") == 11434
    assert ports.local_port("http://gpu-box:12345") == 11434


def test_one_stack_at_a_time_and_run_json_counts_only_while_it_runs(tmp_path: Path) -> None:
    write_run_file(tmp_path, RunFile(up_pid=os.getpid(), gateway_url="http://g", pids={"gateway": 7}))
    assert running_stack(tmp_path) is None, "nobody holds the lock"
    lock = take_lock(tmp_path)
    assert lock is not None
    with lock:
        assert take_lock(tmp_path) is None
        assert lock_is_held(tmp_path)
        run = running_stack(tmp_path)
        assert run is not None
        assert run.pids == {"gateway": 7}
    assert not lock_is_held(tmp_path)


def test_what_a_stack_writes_is_for_its_owner(tmp_path: Path) -> None:
    place = tmp_path / ".arriero"
    with take_lock(place) or pytest.fail("nobody else has it"):
        assert place.stat().st_mode & 0o777 == 0o700
        (place / "run.json.new").touch(mode=0o644)
        write_run_file(place, RunFile(up_pid=1))
        assert (place / "run.json").stat().st_mode & 0o777 == 0o600
    for folder, mode in ((place, 0o700), (tmp_path, 0o755)):
        folder.chmod(0o755)
        close_to_others(folder)
        assert folder.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://user:hunter2@far:6379/9", "redis://far:6379/9"),
        ("rediss://:a@b@far/9?password=hunter2&db=3", "rediss://far/9?db=3"),
        ("unix:///run/redis.sock?db=2&password=hunter2", "unix:///run/redis.sock?db=2"),
        ("redis://far", "redis://far"),
        ("", ""),
    ],
)
def test_where_redis_is_without_the_password(url: str, said: str) -> None:
    assert without_password(url) == said


def test_a_run_json_that_is_not_ours_is_ignored(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"up_pid": 1, "made_up": 2}'):
        (tmp_path / "run.json").write_text(text)
        assert read_run_file(tmp_path) is None


def test_the_state_directory_is_found_from_below(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert state_dir("", below) == below / ".arriero"
    (tmp_path / ".arriero").mkdir()
    (tmp_path / ".arriero" / "run.json").write_text("{}")
    assert state_dir("", below) == tmp_path / ".arriero"
    assert state_dir("/elsewhere", below) == Path("/elsewhere")
