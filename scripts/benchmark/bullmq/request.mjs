// The same request as in request.py: BENCH_BODY, signed anew for each attempt.
import { createHmac } from "node:crypto";

const key = Buffer.from(process.env.BENCH_SECRET.slice("whsec_".length), "base64");

export const url = new URL(process.env.BENCH_URL);

export function headers(id, body) {
  const now = Math.floor(Date.now() / 1000);
  const mac = createHmac("sha256", key).update(`${id}.${now}.${body}`).digest("base64");
  return {
    "content-type": "application/json",
    "user-agent": "callbacks/benchmark",
    "webhook-id": id,
    "webhook-timestamp": String(now),
    "webhook-attempt": "1",
    "webhook-signature": `v1,${mac}`,
  };
}
