// Puts COUNT callbacks into the queue with addBulk, a thousand per call, and reports how long it took.
import { randomBytes } from "node:crypto";
import { Queue } from "bullmq";
import { Redis } from "ioredis";

const count = Number(process.argv[2]);
const prefix = randomBytes(6).toString("hex");
const body = process.env.BENCH_BODY;
const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue("callbacks", {
  connection,
  streams: { events: { maxLen: 100 } },
  defaultJobOptions: {
    removeOnComplete: true,
    attempts: 3,
    backoff: { type: "fixed", delay: 30000 },
  },
});
await queue.waitUntilReady();

const started = performance.now();
for (let done = 0; done < count; done += 1000) {
  const some = Math.min(1000, count - done);
  await queue.addBulk(
    Array.from({ length: some }, (_, n) => ({ name: "send", data: { id: `${prefix}-${done + n}`, body } })),
  );
}
console.log(JSON.stringify({ seconds: (performance.now() - started) / 1000 }));
await queue.close();
connection.disconnect();
