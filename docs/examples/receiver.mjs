// Node: how a customer receives callbacks.
//
//     npm install standardwebhooks
//     . ./callbacks.env    # the file that the sender's processes read, too: the same CALLBACKS_SECRET
//     node receiver.mjs 3000

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.CALLBACKS_SECRET);
const received = new Map();

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString(); // the bytes that were signed, not parsed and written anew
  let event;
  try {
    event = webhook.verify(body, request.headers);
  } catch {
    response.writeHead(401).end();
    return;
  }
  const id = request.headers["webhook-id"]; // the same id may come more than once
  if (!received.has(id)) {
    received.set(id, event);
    console.log(`${id} ${event.type} ${JSON.stringify(event.data)}`);
  }
  response.writeHead(204).end();
}).listen(Number(process.argv[2] ?? 3000), "127.0.0.1");
