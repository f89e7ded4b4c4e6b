"""Every key of the queue, one function each: type, life and owner.

All keys of a shard carry its hash tag, so that one script's keys lie in one cluster slot. Keys of a single job are made
inside the scripts from the roots, with the same names (`lua/includes/record.lua`).
"""

from __future__ import annotations

from dataclasses import dataclass

from arq.constants import job_key_prefix, result_key_prefix


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one shard."""

    shard: str

    @property
    def tag(self) -> str:
        return "{" + self.shard + "}"

    @property
    def root(self) -> str:
        """Prefix of all the shard's own keys."""
        return f"gw:{self.tag}:"

    @property
    def payload_root(self) -> str:
        """Prefix of arq's job payloads: string each. No TTL; the job's end deletes it, or keeps a dead letter's."""
        return f"{job_key_prefix}{self.tag}"

    @property
    def result_root(self) -> str:
        """Prefix of arq's results: string each, TTL is the job's retention."""
        return f"{result_key_prefix}{self.tag}"

    @property
    def queue_name(self) -> str:
        """The name arq knows the queue by. No stock arq worker may serve it."""
        return f"arq:{self.tag}"

    def record(self, job_id: str) -> str:
        """Hash, the job's record. No TTL until the end, which the job's alarm sees to; from then on its retention.

        Fields: s state, c class, k kind, m model, tn tenant, ct created ms, tg its place in line, qt in line since
        ms if not since ct, dl deadline ms, at due ms while scheduled, rt gateways that watch, ev keeps events, l
        its line, co its cost if not 1, h its slot while it runs as `host|unit|thousandths of a call`, sc the call
        that it shares, fp body fingerprint, md metadata and route, rq request id, ttl retention ms, pb payload
        bytes, ro dead letter it replays, ra job that replays it, tok fencing token, w worker, sa last start ms, ea
        end ms, n attempts, hb the one handed back last, f failures, x crashes, cx cancel wanted, er error, a<n>
        start of attempt n as `worker|ms`, z<n> its end as `outcome|ms|notes`. ev, fp, rt, rq and md are left out if
        empty, er after a success.
        """
        return f"{self.root}j:{job_id}"

    def line(self, priority: str, line: str) -> str:
        """Zset, queued ids of one class and line by place. Members leave at claim, cancel and expiry."""
        return f"{self.root}line:{priority}:{line}"

    def lines(self, priority: str) -> str:
        """Zset, lines of one class that have jobs -> place of their first job."""
        return f"{self.root}lines:{priority}"

    def tags(self, priority: str) -> str:
        """Hash, tenant -> the last place it was given in the lines of one class. Goes when they are empty."""
        return f"{self.root}tags:{priority}"

    @property
    def depth(self) -> str:
        """Hash, class -> its queued jobs."""
        return f"{self.root}depth"

    @property
    def slots(self) -> str:
        """Hash, `host` and `host|unit` -> calls under way there, in thousandths. A field goes with the last of them."""
        return f"{self.root}slots"

    @property
    def shared_calls(self) -> str:
        """Hash, a call that serves several jobs -> how many of them run. A field goes with the last of them."""
        return f"{self.root}shared-calls"

    @property
    def hosts(self) -> str:
        """Hash, host -> what was last seen there (`shared/queue/sightings.py`, msgpack). Fields of hosts that are no
        longer configured are deleted by the workers."""
        return f"{self.root}hosts"

    @property
    def tenures(self) -> str:
        """Hash, host -> how many jobs were started there that made it load a model. Permanent, a field a host."""
        return f"{self.root}tenures"

    def watch(self, host: str) -> str:
        """String, the worker that looks at a host for all. TTL the time to its next look."""
        return f"{self.root}watch:{host}"

    @property
    def alarms(self) -> str:
        """Zset, each unfinished job -> when it must be looked at (ms): due time, deadline or lease end."""
        return f"{self.root}alarms"

    @property
    def wake(self) -> str:
        """Zset with one marker while there may be work; idle workers block on it."""
        return f"{self.root}wake"

    @property
    def turns(self) -> str:
        """Hash, the classes' virtual times. Permanent, four fields."""
        return f"{self.root}turns"

    @property
    def counters(self) -> str:
        """Hash, jobs by state and event totals. Permanent."""
        return f"{self.root}counters"

    @property
    def dead_letters(self) -> str:
        """Zset, dead-lettered jobs by the time of their end (ms). Bounded in time and number by the sweep."""
        return f"{self.root}dlq"

    @property
    def load(self) -> str:
        """Hash, what admission looks at: `bytes` of unfinished jobs' payloads, drain `rate` (jobs a second) and when it
        was `rated` (ms), `memory` in use (%), `keep` of dead letters (ms), the sweep's own notes. Permanent.
        """
        return f"{self.root}load"

    @property
    def unfinished(self) -> str:
        """Hash, tenant -> its jobs that have not ended. A field goes with the last of them."""
        return f"{self.root}unfinished"

    @property
    def unfinished_models(self) -> str:
        """Hash, model as its callers spell it, or `service~model` elsewhere than on our Ollama hosts -> its jobs that
        have not ended. A field goes with the last of them.
        """
        return f"{self.root}unfinished-models"

    def tenant(self, tenant: str) -> str:
        """Zset, a tenant's job ids by creation time. Trimmed by the sweep once the records are gone."""
        return f"{self.root}tenant:{tenant}"

    @property
    def tenants(self) -> str:
        """Set, tenants that have an index. Trimmed by the sweep."""
        return f"{self.root}tenants"

    def events(self, job_id: str) -> str:
        """Stream, the job's chunk log, ids `<attempt>-<seq>`. Lives as the record."""
        return f"{self.root}events:{job_id}"

    def inbox(self, gateway_id: str) -> str:
        """Stream, what a gateway's clients wait for. TTL 60 s, renewed by its gateway, never made by a worker."""
        return f"{self.root}inbox:{gateway_id}"

    def operation_slot(self, target: str) -> str:
        """String, number of the latest operation on one model and host. TTL two retentions of an operation."""
        return f"{self.root}op-slot:{target}"

    @property
    def workers(self) -> str:
        """Zset, worker -> when its heartbeat lapses (ms). Trimmed by the sweep."""
        return f"{self.root}workers"

    def worker(self, worker_id: str) -> str:
        """String, a worker's heartbeat in msgpack. TTL 15 s."""
        return f"{self.root}worker:{worker_id}"

    @property
    def control(self) -> str:
        """Pub/sub channel with hints to workers: `cancel <worker> <id>`."""
        return f"{self.root}ctl"

    @property
    def answers(self) -> str:
        """Zset, digest of a request -> when its answer was kept (ms). TTL as the answers'."""
        return f"{self.root}answers"

    @property
    def answer_sizes(self) -> str:
        """Hash, digest of a request -> bytes of its kept answer, and their sum. TTL as the answers'."""
        return f"{self.root}answers:sizes"

    @property
    def answer_root(self) -> str:
        """Prefix of kept answers: string each, by digest. TTL is ANSWER_CACHE_TTL."""
        return f"{self.root}answer:"

    def responses(self, tenant: str) -> str:
        """Zset, digest of a tenant's request -> when its answer was kept (ms). TTL RESPONSE_CACHE_TTL, renewed."""
        return f"{self.root}responses:{tenant}"

    def response_sizes(self, tenant: str) -> str:
        """Hash, digest of a tenant's request -> bytes of its kept answer, and their sum. TTL as the index'."""
        return f"{self.root}response-sizes:{tenant}"

    def response_root(self, tenant: str) -> str:
        """Prefix of a tenant's kept answers: string each, by digest. TTL RESPONSE_CACHE_TTL."""
        return f"{self.root}response:{tenant}:"

    def files(self, tenant: str) -> str:
        """Hash, id of a file that the tenant sent -> what is known of it, in msgpack. TTL BATCH_FILE_TTL, renewed."""
        return f"{self.root}files:{tenant}"

    def file(self, tenant: str, file_id: str) -> str:
        """Hash, number of a piece of a file -> its bytes. TTL BATCH_FILE_TTL."""
        return f"{self.root}file:{tenant}:{file_id}"

    def batches(self, tenant: str) -> str:
        """Zset, a tenant's batches -> when each began (s). TTL as the batches', renewed."""
        return f"{self.root}batches:{tenant}"

    def batch(self, tenant: str, batch_id: str) -> str:
        """Hash, a batch: its description, what became of its requests. TTL the window and RESULT_TTL, renewed."""
        return f"{self.root}batch:{tenant}:{batch_id}"

    def conversations(self, tenant: str) -> str:
        """Zset, a tenant's conversations -> when each was last added to (ms). TTL CONVERSATION_TTL, renewed."""
        return f"{self.root}conversations:{tenant}"

    def conversation_root(self, tenant: str) -> str:
        """Prefix of a tenant's conversations: list each of exchanges in msgpack, the oldest first. TTL
        CONVERSATION_TTL, renewed by each exchange."""
        return f"{self.root}conversation:{tenant}:"

    @property
    def api_keys(self) -> str:
        """Hash, key id -> hashed key, tenant, role. Permanent; owned by `arriero keys`."""
        return f"{self.root}keys"

    # -- circuits and retry budgets (shared/resilience) --------------------------------------------------------------

    @property
    def circuit_root(self) -> str:
        """Prefix of the circuits' hashes."""
        return f"{self.root}circuit:"

    def circuit(self, name: str) -> str:
        """Hash, a circuit that has been open of late: fields in `lua/includes/circuit.lua`. TTL open time + 1 h."""
        return self.circuit_root + name

    def circuit_permit(self, name: str) -> str:
        """String, the token of the one call that probes a half-open circuit. TTL the probe's lease."""
        return f"{self.root}probe:{name}"

    def circuit_failures(self, name: str) -> str:
        """Hash, the fleet's failures in a row on a closed circuit: fields in `lua/failed.lua`. TTL the breaker's
        window."""
        return f"{self.root}row:{name}"

    @property
    def circuits(self) -> str:
        """Zset, circuits that have been open of late -> when they lapse (ms). TTL that of the last of them."""
        return f"{self.root}circuits"

    @property
    def circuit_news(self) -> str:
        """Pub/sub channel: `changed <name>` after each change of a circuit, `reset` after one of all."""
        return f"{self.root}circuit-news"

    def retry_budget(self, name: str) -> str:
        """Hash, what is left of a retry budget that is not full: v level (thousandths), t as of (ms). TTL until it
        would be full."""
        return f"{self.root}budget:{name}"

    def alert(self, fingerprint: str) -> str:
        """String, the monitor that told of an alert. TTL 15 min, renewed while it fires, deleted when it is over."""
        return f"{self.root}alert:{fingerprint}"

    # -- what models are used for (shared/usage) and which stay in memory (shared/pins.py, manager) --------------------

    def usage(self, place: str) -> str:
        """Hash, what the fleet did with a model on a host; fields in `shared/usage/fields.py`. TTL 180 days, renewed by
        each use."""
        return f"{self.root}usage:{place}"

    @property
    def usages(self) -> str:
        """Zset, `model@host` -> when it was last used (ms). Trimmed at each flush, TTL as the figures'."""
        return f"{self.root}usages"

    @property
    def usage_since(self) -> str:
        """String, when recording began (ms). Permanent."""
        return f"{self.root}usage-since"

    def usage_batch(self, recorder: str) -> str:
        """String, number of the last batch of figures taken from a worker. TTL 1 h, renewed by the next."""
        return f"{self.root}usage-batch:{recorder}"

    @property
    def services(self) -> str:
        """Hash, services registered at run time: name -> JSON without secrets, at most 100. Permanent; owned by whoever
        registers them."""
        return f"{self.root}services"

    @property
    def default_service(self) -> str:
        """String, the default service chosen at run time. Permanent; owned by whoever chose it."""
        return f"{self.root}default-service"

    @property
    def pins(self) -> str:
        """Set, models that an operator keeps in memory. Permanent; owned by whoever pins and unpins."""
        return f"{self.root}pins"

    @property
    def residents(self) -> str:
        """String, msgpack list of models that the leading manager keeps in memory. TTL three of its rounds."""
        return f"{self.root}residents"

    # -- the catalogue of models (shared/catalogue) and what outside registries have (manager/registries) --------------

    def model_root(self, service: str) -> str:
        """Prefix of a service's models: hash each, fields as in `shared/catalogue/record.py`. TTL 7 days, renewed by
        each look at the service."""
        return f"{self.root}model:{service}~"

    def service_models(self, service: str) -> str:
        """Zset, a service's models -> when each was last seen (ms), at most 1000. TTL as the models'."""
        return f"{self.root}models:{service}"

    def service_seen(self, service: str) -> str:
        """String, there while the models of a service have been looked at a moment ago. TTL 10 s, 5 min for a cloud
        service."""
        return f"{self.root}models-seen:{service}"

    def registry_model_root(self, registry: str) -> str:
        """Prefix of models found in an outside registry: hash each. TTL REGISTRY_CACHE_TTL."""
        return f"{self.root}registry-model:{registry}~"

    def registry_search(self, digest: str) -> str:
        """String, msgpack list of the models that a search found. TTL REGISTRY_CACHE_TTL."""
        return f"{self.root}registry-search:{digest}"

    @property
    def registry_models(self) -> str:
        """Zset, models found in outside registries -> when (ms), at most 2000. TTL REGISTRY_CACHE_TTL."""
        return f"{self.root}registry-models"

    @property
    def leader(self) -> str:
        """Hash, the manager that leads: token, name, epoch. TTL its lease."""
        return f"{self.root}leader"

    @property
    def leader_epoch(self) -> str:
        """String, number of the latest term of leadership; it only grows. Permanent."""
        return f"{self.root}leader-epoch"
