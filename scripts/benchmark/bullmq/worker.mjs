// One worker process: a job is one callback.
//
// Tuned for throughput: `concurrency` jobs at once on one event loop, with as many connections kept
// open by undici's Pool, without pipelining (a slow answer would hold up those behind it, and a
// POST is not pipelined anyway). Finished jobs are removed. Nobody reads the events: they cannot be
// switched off, so few are kept (see produce.mjs). A failed job is tried 3 times, as by us.
import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { Pool } from "undici";
import { headers, url } from "./request.mjs";

const concurrency = Number(process.env.BENCH_IN_FLIGHT);
const pool = new Pool(url.origin, { connections: concurrency, pipelining: 1 });

async function send(job) {
  const { id, body } = job.data;
  const answer = await pool.request({
    method: "POST",
    path: url.pathname,
    headers: headers(id, body),
    body,
  });
  await answer.body.dump();
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
}

const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
new Worker("callbacks", send, { connection, concurrency, removeOnComplete: { count: 0 } });
