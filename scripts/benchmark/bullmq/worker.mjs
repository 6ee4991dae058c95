// One worker process: a job is one callback.
//
// Set for throughput: `concurrency` jobs at once on one event loop, as many connections as that
// kept open by undici's Pool, without pipelining (a slow answer would hold up those behind it;
// and a POST is not pipelined anyway). What is done is removed, and no events are written for
// anyone to read (they are kept short below, for they cannot be switched off). A job that fails
// is tried 3 times, as by us.
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
