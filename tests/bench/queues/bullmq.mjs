// BullMQ on Node; see protocol.md. Run with the directory in which it is installed as BENCH_PEER_DIRECTORY.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const require = createRequire(join(process.env.BENCH_PEER_DIRECTORY, 'package.json'));
const { Queue, QueueEvents, Worker } = require('bullmq');

const CONCURRENCY = Number(process.env.BENCH_BULLMQ_CONCURRENCY ?? 200);
const QUEUE = 'bench';

const { positionals: [command], values } = parseArgs({
  allowPositionals: true,
  options: {
    redis: { type: 'string' },
    jobs: { type: 'string', default: '0' },
    callers: { type: 'string', default: '1' },
    payload: { type: 'string', default: '1024' },
  },
});
const [jobs, callers, payload] = [values.jobs, values.callers, values.payload].map(Number);
const address = new URL(values.redis);
const connection = { host: address.hostname, port: Number(address.port), maxRetriesPerRequest: null };
const body = { text: 'x'.repeat(payload) };
const noop = async () => {};

/** Seconds for calling `once` for every job, `callers` at a time. */
async function shareOut(once) {
  let left = jobs;
  const caller = async () => {
    while (left > 0) {
      left -= 1;
      await once();
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: callers }, caller));
  return (performance.now() - started) / 1000;
}

async function enqueue() {
  const queue = new Queue(QUEUE, { connection });
  await queue.waitUntilReady();
  const tookS = await shareOut(() => queue.add('noop', body));
  await queue.close();
  return { per_s: jobs / tookS };
}

async function drain() {
  const worker = new Worker(QUEUE, noop, { connection, concurrency: CONCURRENCY, autorun: false });
  let done = 0;
  const started = performance.now();
  const finished = new Promise((resolve, reject) => {
    // 'completed' comes once Redis has confirmed the end of the job.
    worker.on('completed', () => (done += 1) === jobs && resolve());
    worker.on('failed', (job, error) => reject(error));
  });
  worker.run();
  await finished;
  const tookS = (performance.now() - started) / 1000;
  await worker.close();
  return { per_s: jobs / tookS };
}

async function work() {
  const worker = new Worker(QUEUE, noop, { connection, concurrency: CONCURRENCY });
  await worker.waitUntilReady();
  console.log('{"ready": true}');
  process.once('SIGTERM', () => worker.close().then(() => process.exit(0)));
  await new Promise(() => {});
}

async function roundtrip() {
  const queue = new Queue(QUEUE, { connection });
  // From the beginning: it says that it is ready before its first read from '$' is, and would miss what comes between.
  const events = new QueueEvents(QUEUE, { connection, lastEventId: '0-0' });
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  // Each wait listens on both; Node would warn of a leak from the eleventh on.
  for (const emitter of [queue, events]) emitter.setMaxListeners(0);
  const tookMs = [];
  const totalS = await shareOut(async () => {
    const started = performance.now();
    const job = await queue.add('noop', body);
    await job.waitUntilFinished(events, 30_000);
    tookMs.push(performance.now() - started);
  });
  tookMs.sort((a, b) => a - b);
  const percentile = (share) => tookMs[Math.max(0, Math.ceil(share * tookMs.length) - 1)];
  await Promise.all([queue.close(), events.close()]);
  return { p50_ms: percentile(0.5), p99_ms: percentile(0.99), per_s: jobs / totalS };
}

const result = await { enqueue, drain, work, roundtrip }[command]();
console.log(JSON.stringify(result));
process.exit(0);
