// rsocket-js against the RSocket engine: node interop.js TCP_PORT WS_PORT.
// Prints one line per check and exits 1 if any failed.
"use strict";
const assert = require("node:assert");
const { RSocketConnector } = require("rsocket-core");
const { TcpClientTransport } = require("rsocket-tcp-client");
const { WebsocketClientTransport } = require("rsocket-websocket-client");
const composite = require("rsocket-composite-metadata");
const WebSocket = require("ws");

const [tcpPort, wsPort] = process.argv.slice(2).map(Number);
const deadlineMs = 10_000;
const noop = { onNext() {}, onComplete() {}, onError() {}, onExtension() {}, request() {}, cancel() {} };

function metadata(route, token) {
  const entries = [];
  if (route) entries.push([composite.WellKnownMimeType.MESSAGE_RSOCKET_ROUTING, composite.encodeRoute(route)]);
  if (token) entries.push([composite.WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION, composite.encodeBearerAuthMetadata(token)]);
  return composite.encodeCompositeMetadata(entries);
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: nothing within ${deadlineMs} ms`)), deadlineMs); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const transports = {
  tcp: () => new TcpClientTransport({ connectionOptions: { host: "127.0.0.1", port: tcpPort } }),
  ws: () => new WebsocketClientTransport({ url: `ws://127.0.0.1:${wsPort}/rsocket`, wsCreator: (url) => new WebSocket(url) }),
};

function connect(kind, token, heard = []) {
  return new RSocketConnector({
    setup: {
      keepAlive: 300, lifetime: 2000, dataMimeType: "application/octet-stream",
      metadataMimeType: composite.WellKnownMimeType.MESSAGE_RSOCKET_COMPOSITE_METADATA.string,
      payload: { data: Buffer.from("hello"), metadata: metadata(null, token) },
    },
    responder: {
      fireAndForget(p, s) { heard.push("fnf:" + p.data); s.onComplete(); return { ...noop }; },
      requestResponse(p, s) { heard.push("rr:" + p.data); s.onNext({ data: Buffer.from("a browser") }, true); return { ...noop }; },
    },
    transport: transports[kind](),
  }).connect();
}

function ask(socket, data, meta) {
  return within(new Promise((resolve, reject) => socket.requestResponse({ data: Buffer.from(data), metadata: meta }, {
    ...noop, onNext: resolve, onError: reject, onComplete: () => resolve(null),
  })), data);
}

// stream receives with a window: first `initial`, then `more` each time those have come.
function stream(socket, request, initial, more) {
  const run = { got: 0, inOrder: true, most: 0 };
  let left = initial;
  run.done = within(new Promise((resolve, reject) => {
    run.handle = socket.requestStream({ data: Buffer.from(request) }, initial, {
      ...noop,
      onNext(p, complete) {
        if (p.data.readBigUInt64BE() !== BigInt(run.got)) run.inOrder = false;
        run.got++;
        if (complete) return resolve();
        if (--left === 0 && more) { left = more; run.handle.request(more); }
      },
      onComplete: resolve, onError: reject,
    });
  }), request);
  run.done.catch(() => {});
  return run;
}

const checks = {
  async "request-response with metadata"(socket) {
    const p = await ask(socket, "ping", metadata("r"));
    assert.equal(p.data.toString(), "ping");
    assert.deepEqual(p.metadata, metadata("r"));
  },
  async "route of composite metadata"(socket) {
    assert.equal((await ask(socket, "route", metadata("records.ack"))).data.toString(), "records.ack");
  },
  async "error keeps code and text"(socket) {
    await assert.rejects(ask(socket, "error no such thing"), (e) => e.message === "no such thing" && e.code === 0x201);
  },
  async "3 MiB answer"(socket) {
    assert.equal((await ask(socket, "big 3145728")).data.length, 3145728);
  },
  async "request-stream with credit"(socket) {
    for (const [initial, more] of [[1, 1], [3, 7], [64, 64], [0x7fffffff, 0]]) {
      const run = stream(socket, "stream 1000 100", initial, more);
      await run.done;
      assert.equal(run.got, 1000);
      assert.ok(run.inOrder);
    }
  },
  async "no payload beyond the credit"(socket) {
    const run = stream(socket, "endless 10", 10, 0);
    for (let i = 0; i < 20; i++) await ask(socket, "x");
    assert.equal(run.got, 10);
    run.handle.request(5);
    for (let i = 0; i < 20; i++) await ask(socket, "x");
    assert.equal(run.got, 15);
    run.handle.cancel();
    for (let i = 0; (await ask(socket, "open")).data.toString() !== "0"; i++) assert.ok(i < 1000, "cancel did not end the stream");
  },
  async "stream refused"(socket) {
    await assert.rejects(stream(socket, "nothing", 1, 0).done, (e) => e.message.includes("no stream"));
  },
  async "request-channel refused, connection kept"(socket) {
    const refused = within(new Promise((resolve, reject) => socket.requestChannel({ data: Buffer.from("x") }, 5, false, { ...noop, onError: resolve, onNext: () => reject(new Error("answered")) })), "channel");
    assert.match((await refused).message, /not supported/);
    assert.equal((await ask(socket, "still here")).data.toString(), "still here");
  },
  async "fire-and-forget"(socket) {
    const notes = async () => Number((await ask(socket, "notes")).data);
    const before = await notes();
    socket.fireAndForget({ data: Buffer.from("ack 5") }, { ...noop });
    for (let i = 0; (await notes()) === before; i++) assert.ok(i < 1000, "fire-and-forget did not arrive");
  },
  async "requests of the server"(_, heard) {
    for (let i = 0; heard.length < 3; i++) {
      assert.ok(i < 500, `heard only ${heard}`);
      await new Promise((r) => setTimeout(r, 10));
    }
    assert.deepEqual(heard, ["fnf:hello", "rr:who?", "fnf:you are a browser"]);
  },
  async "keepalive holds an idle connection past its lifetime"(socket, _, state) {
    await new Promise((r) => setTimeout(r, 3000));
    assert.equal(state.closed, false);
    assert.equal((await ask(socket, "x")).data.toString(), "x");
  },
};

async function main() {
  let failed = 0;
  const check = async (name, run) => {
    try {
      await run();
      console.log(`ok    ${name}`);
    } catch (e) {
      failed++;
      console.log(`FAIL  ${name}: ${e.stack}`);
    }
  };
  for (const kind of Object.keys(transports)) {
    const heard = [];
    const state = { closed: false };
    const socket = await within(connect(kind, "t0ken", heard), `connect ${kind}`);
    socket.onClose(() => { state.closed = true; });
    for (const [name, run] of Object.entries(checks)) await check(`${kind}: ${name}`, () => run(socket, heard, state));
    socket.close();
    await check(`${kind}: refused SETUP`, async () => {
      const refused = await within(connect(kind, "wrong"), "connect");
      const error = await within(new Promise((r) => refused.onClose(r)), "refusal");
      assert.match(String(error && error.message), /unauthorized/);
    });
  }
  process.exit(failed ? 1 : 0);
}

main().catch((e) => { console.error(e); process.exit(1); });
