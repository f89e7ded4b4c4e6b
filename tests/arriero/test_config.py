"""`arriero config`: what would start, what is in effect, and the page made from the same classes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.requirements import ROOT
from tests.integration.processes import clean_environment

DOCUMENT = ROOT / "docs" / "configuration.md"
LIMIT_S = 30.0


def config(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "arriero", "config", *arguments],
        env=clean_environment(settings), cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


@pytest.mark.req("S0-33", "S0-34", "S0-35")
def test_faults_of_all_services_in_one_list(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "llm:\n  allowed_models: [llama3.2]\n  model_preload_list: [mistral]\n"
        "worker: {port: 8000, concurency: 3}\nmonitor: {nonsense: 1}\n"
    )
    done = config(
        *(tmp_path, "check", "--json"),
        OLLAMA_URL="http://a", OLLAMA_API_URL="http://b", WORKER_TIMEOUT="300000", ARRIERO_API_KEY="hunter2",
    )  # fmt: skip
    assert done.returncode == 78
    found = json.loads(done.stdout)
    faults = "\n".join(found["faults"])
    for words in ("MODEL_PRELOAD_LIST: mistral", "OLLAMA_API_URL", "ARRIERO_API_KEY: is not an API key"):
        assert words in faults
    assert "hunter2" not in done.stdout
    remarks = "\n".join(found["remarks"])
    assert "worker.concurency (config.yaml) is not a setting and has no effect. Is WORKER_CONCURRENCY meant?" in remarks
    assert "monitor.nonsense (config.yaml)" in remarks
    assert "WORKER_TIMEOUT (environment) is read as 300 s" in remarks
    assert len(found["faults"]) == len(set(found["faults"])), "each once, though five services have it"


def test_what_no_model_or_folder_can_be_is_a_fault(tmp_path: Path) -> None:
    done = config(tmp_path, "check", FALLBACK_MODELS="~,llama3.2,openai~", MODEL_IMPORT_DIR=str(tmp_path / "nope"))
    assert done.returncode == 78
    assert re.findall(r"^fault  ([A-Z_]+: \S+)", done.stdout, re.MULTILINE) == [
        "FALLBACK_MODELS: ~", "FALLBACK_MODELS: openai~", f"MODEL_IMPORT_DIR: {tmp_path / 'nope'}",
    ]  # fmt: skip
    assert config(tmp_path, "check", FALLBACK_MODELS="jan~a", MODEL_IMPORT_DIR=str(tmp_path)).returncode == 0


def test_what_is_not_looked_at_is_said(tmp_path: Path) -> None:
    done = config(tmp_path, "check", GATEWAY_HOST="0.0.0.0")
    assert done.returncode == 0
    assert "not looked at: API keys" in done.stdout


def test_ports_that_collide_are_found(tmp_path: Path) -> None:
    done = config(tmp_path, "check", WORKER_PORT="8000")
    assert done.returncode == 78
    assert "WORKER_PORT: 8000 is GATEWAY_PORT as well" in done.stdout


def test_a_yaml_file_is_a_source_like_others(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "redis: {url: 'redis://:hunter2@cache/3', password: hunter3}\ngateway: {port: 8100}\n"
    )
    rows = {
        row["names"][0]: row
        for row in json.loads(config(tmp_path, "show", "--json", ARRIERO_CONFIG="mine.yaml").stdout)
    }
    assert rows["GATEWAY_PORT"]["value"] == "8100"
    assert rows["GATEWAY_PORT"]["source"] == "mine.yaml (gateway.port)"
    assert rows["REDIS_URL"]["value"] == "redis://:********@cache/3"
    assert rows["REDIS_PASSWORD"]["value"] == "********"
    assert rows["RESULT_TTL"]["value"] == "86400s"


def test_a_broken_file_is_one_line_with_status_78(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("redis: [")
    for arguments in (("check",), ("show",)):
        done = config(tmp_path, *arguments)
        assert done.returncode == 78
        assert "config.yaml: is not YAML" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.req("S0-34")
def test_a_key_is_told_by_its_form(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "arriero", "jobs", "list"],
        env=clean_environment({"ARRIERO_API_KEY": "sk-hunter2"}), cwd=tmp_path, capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "ARRIERO_API_KEY" in done.stderr
    assert "hunter2" not in done.stderr


def test_the_page_in_the_tree_is_the_generated_one(tmp_path: Path) -> None:
    done = config(tmp_path, "reference", "--check", str(DOCUMENT))
    assert done.returncode == 0, done.stderr
    changed = tmp_path / "configuration.md"
    changed.write_text(DOCUMENT.read_text().replace("| `GATEWAY_PORT` | `8000` |", "| `GATEWAY_PORT` | `8001` |"))
    drifted = config(tmp_path, "reference", "--check", str(changed))
    assert drifted.returncode == 1
    assert "`8000`" in drifted.stderr


def test_the_page_names_each_setting_once() -> None:
    names = re.findall(r"^\| `([A-Z_]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert len(names) == len(set(names))
    assert {"REDIS_URL", "WORKER_ID", "MODEL_PRELOAD_LIST", "CPU_ALERT_THRESHOLD", "ARRIERO_URL"} <= set(names)
