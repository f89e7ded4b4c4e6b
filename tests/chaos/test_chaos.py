"""The fault campaign, shortened to what every test run can afford. `make chaos` runs it whole."""

from __future__ import annotations

import pytest

from tests.chaos.campaign import Campaign
from tests.chaos.scenarios import SCENARIOS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]
SHORT = Campaign(short=True)


async def held(scenario: str) -> None:
    """Run a scenario; every figure must keep its bound and every invariant hold."""
    outcome = await SCENARIOS[scenario](SHORT)
    assert outcome.held, "\n".join(outcome.failures())


@pytest.mark.req("S1-15")
async def test_killed_workers_lose_nothing() -> None:
    await held("F1")


async def test_a_kill_at_any_step_costs_at_most_one_more_call() -> None:
    await held("F2")


async def test_a_zombie_changes_nothing() -> None:
    await held("F3")


async def test_clients_of_a_killed_gateway_go_on_at_another() -> None:
    await held("F5")


@pytest.mark.req("S1-14")
async def test_a_killed_redis_loses_nothing_and_ends_nobody() -> None:
    await held("F6")


async def test_replacing_every_worker_costs_no_try() -> None:
    await held("F15")


@pytest.mark.req("S1-14", "S1-21")
async def test_a_full_disk_costs_nothing_that_was_accepted() -> None:
    await held("F21")


async def test_ready_jobs_do_not_wait_behind_running_ones() -> None:
    await held("F22")


@pytest.mark.req("S1-14")
async def test_garbage_is_never_an_answer() -> None:
    await held("F12")


@pytest.mark.req("S1-10")
async def test_a_crowd_that_failed_together_does_not_come_back_together() -> None:
    await held("F18")


async def test_one_key_is_one_job_on_whatever_gateway() -> None:
    await held("F14")


@pytest.mark.req("S1-11")
async def test_a_job_of_another_release_is_set_aside_and_can_be_run_later() -> None:
    await held("F29")


@pytest.mark.slow
@pytest.mark.req("S1-102")
async def test_managers_are_followed_and_jobs_need_none() -> None:
    await held("F28")
