"""The manager's pages: what there is to read, and what may be ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from aiohttp import web

from manager.answers import Body, models_body, operation_body, plan_body, scores_body, usage_body
from manager.facts import Facts
from manager.inventory import near_names
from manager.leader import Leadership
from manager.leading import missing
from manager.maintenance import Maintenance
from manager.settings import ManagerSettings
from shared.api_keys import Role
from shared.errors import BadRequest, ModelInUse, ModelNotFound
from shared.model_names import same
from shared.operations.orders import Orders, check_file, check_model
from shared.pages import CALLER, REQUEST_ID, Handler, Page, json_response, read_body
from shared.queue.client import ANSWER_WITHIN_S
from shared.queue.connection import within
from shared.status_server import now_rfc3339
from shared.wire.operations import ModelOperation, OperationName

LONGEST_WAIT_S = 30.0
_OPERATIONS: Sequence[OperationName] = ("pull", "import", "load", "unload", "update", "delete")
_BRINGS: frozenset[OperationName] = frozenset({"pull", "import"})
_TAKES_AWAY: frozenset[OperationName] = frozenset({"unload", "delete"})


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    host: str = ""
    file: str = ""


class _Pin(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    pinned: bool = True


class _Preload(msgspec.Struct, forbid_unknown_fields=True):
    models: list[str] | None = None


class _Cleanup(msgspec.Struct, forbid_unknown_fields=True):
    dry_run: bool = True


class Routes:
    """The handlers. Reading needs an operator's key, changing an admin's."""

    def __init__(
        self, settings: ManagerSettings, facts: Facts, orders: Orders, maintenance: Maintenance, leadership: Leadership
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._orders = orders
        self._maintenance = maintenance
        self._leadership = leadership

    @property
    def pages(self) -> list[Page]:
        reading: dict[str, Handler] = {
            "/models": self.models,
            "/models/usage": self.usage,
            "/models/scores": self.scores,
            "/models/operations": self.operations,
            "/models/operations/{id}": self.operation,
            "/leader": self.leader,
        }
        changing: dict[tuple[str, str], Handler] = {
            ("POST", "/models/pin"): self.pin,
            ("POST", "/models/preload"): self.preload,
            ("POST", "/models/cleanup"): self.cleanup,
            ("DELETE", "/models/operations/{id}"): self.cancel,
            **{("POST", f"/models/{op}"): self._orderer(op) for op in _OPERATIONS},
        }
        return [
            *(Page(method="GET", path=path, handler=handler) for path, handler in reading.items()),
            *(
                Page(method=method, path=path, handler=handler, role=Role.ADMIN)
                for (method, path), handler in changing.items()
            ),
        ]

    # -- reading ----------------------------------------------------------------------------------------------------

    async def models(self, _: web.Request) -> Body:
        hosts, usage = await self._facts.hosts(), await self._facts.usage()
        pins, scores = await self._facts.pinned(), await self._facts.scores(hosts, usage)
        return {
            "timestamp": now_rfc3339(),
            "models": models_body(hosts, usage, pins, scores),
            "hosts": [asdict(host) for host in hosts],
            "pins": sorted(pins),
            "pins_not_installed": sorted(pin for pin in pins if not any(host.has(pin) for host in hosts)),
        }

    async def usage(self, _: web.Request) -> Body:
        return {"since": await self._facts.used_since(), "models": usage_body(await self._facts.usage())}

    async def scores(self, _: web.Request) -> Body:
        return {"scores": scores_body(await self._facts.scores(await self._facts.hosts(), await self._facts.usage()))}

    async def leader(self, _: web.Request) -> Body:
        info = await within(ANSWER_WITHIN_S, self._leadership.read)
        return {"leader": None if info is None else asdict(info), "is_me": self._leadership.is_leader}

    # -- operations -------------------------------------------------------------------------------------------------

    async def operations(self, _: web.Request) -> Body:
        return {"operations": [operation_body(operation) for operation in await self._orders.list()]}

    async def operation(self, request: web.Request) -> Body:
        """`?wait=10`: answer once it has moved on or ended, at the latest after so many seconds."""
        text = request.query.get("wait", "0")
        try:
            wait_s = float(text)
        except ValueError:
            wait_s = -1.0
        if not 0 <= wait_s <= LONGEST_WAIT_S:
            raise BadRequest(f"`wait` must be a number of seconds from 0 to {LONGEST_WAIT_S:g}.", param="wait")
        return operation_body(await self._orders.wait(request.match_info["id"], wait_s))

    async def cancel(self, request: web.Request) -> Body:
        return operation_body(await self._orders.cancel(request.match_info["id"]))

    def _orderer(self, op: OperationName) -> Handler:
        async def order(request: web.Request) -> web.Response:
            fields = await read_body(request, _Order)
            wanted = ModelOperation(op=op, model=fields.model, host=fields.host, file=fields.file)
            check_model(wanted.model, op, self._settings.allowed_models)
            check_file(wanted)
            if op not in _BRINGS:
                await self._check_there(wanted)
            if op in _TAKES_AWAY:
                await self._check_unused(wanted)
            operation = await self._orders.place(wanted, by=_who(request), request_id=request[REQUEST_ID])
            return json_response(operation_body(operation), 202)

        return order

    async def _check_there(self, order: ModelOperation) -> None:
        """Raises ModelNotFound when every host that is meant says that it does not have the model, and none is just
        getting it."""
        meant = [host for host in await self._facts.hosts() if order.host in ("", host.host)]
        coming = {same(operation.record.model) for operation in await self._orders.under_way()}
        if meant and not any(host.error or host.has(order.model) for host in meant) and same(order.model) not in coming:
            where = order.host or "any model server"
            near = near_names(order.model, meant)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ModelNotFound(f"{order.model} is not installed on {where}.{hint} Pull it first.", param="model")

    async def _check_unused(self, order: ModelOperation) -> None:
        """Told at once, though the operation looks again. Raises ModelInUse where no host can let go of it."""
        hosts = [order.host] if order.host else [host.host for host in await self._facts.hosts()]
        reasons = [await self._facts.why_kept(order.model, host) for host in hosts]
        if reasons and all(reasons):
            raise ModelInUse(
                f"{order.model} stays: {reasons[0]}. Unpin it, or wait until its jobs have ended.", param="model"
            )

    # -- policies ---------------------------------------------------------------------------------------------------

    async def pin(self, request: web.Request) -> Body:
        """Where a model that gets pinned is in memory, it is loaded once more: its server would let it go by itself."""
        fields = await read_body(request, _Pin)
        check_model(fields.model, "load", ())
        if fields.pinned:
            await self._check_there(ModelOperation(op="load", model=fields.model))
        change = self._facts.pins.pin if fields.pinned else self._facts.pins.unpin
        await within(ANSWER_WITHIN_S, lambda: change(fields.model))
        ids = await self._maintenance.keep(fields.model, _who(request)) if fields.pinned else ()
        return {"model": same(fields.model), "pinned": fields.pinned, "operations": list(ids)}

    async def preload(self, request: web.Request) -> web.Response:
        """Load the given models, or MODEL_PRELOAD_LIST, wherever they are installed."""
        fields = await read_body(request, _Preload, may_be_empty=True)
        names = self._settings.model_preload_list if fields.models is None else fields.models
        for name in names:
            check_model(name, "load", ())
        ids = await self._maintenance.preload(_who(request), names)
        hosts = [host for host in await self._facts.hosts() if not host.error]
        nowhere = [name for name in names if all(name in missing(names, host) for host in hosts)]
        operations = [operation_body(await self._orders.get(operation_id)) for operation_id in ids]
        return json_response({"operations": operations, "not_installed": nowhere}, 202)

    async def cleanup(self, request: web.Request) -> web.Response:
        """The plan; with `"dry_run": false` it is carried out as well, by one operation for each model and host."""
        fields = await read_body(request, _Cleanup, may_be_empty=True)
        plan = await self._maintenance.plan()
        if fields.dry_run:
            return json_response(plan_body(plan, dry_run=True))
        ids = await self._maintenance.carry_out(plan, _who(request))
        return json_response(plan_body(plan, dry_run=False, operations=ids), 202)


def _who(request: web.Request) -> str:
    """Who gives an order, for its record."""
    caller = request[CALLER]
    return f"{caller.tenant}/{caller.key_id}" if caller.key_id else caller.tenant
