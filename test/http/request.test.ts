import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { describe, it } from "node:test";
import { createAddresses, createRequestIds } from "../../src/http/request.ts";

/** As much of a request as addresses look at. */
const from = (remoteAddress: string | undefined, headers: Record<string, string> = {}): IncomingMessage =>
  ({ socket: { remoteAddress }, headers }) as unknown as IncomingMessage;

const forwarded = (peer: string, chain: string): IncomingMessage => from(peer, { "x-forwarded-for": chain });

describe("the client's address", () => {
  it("is the peer's, whatever a stranger's headers say", () => {
    const none = createAddresses([]);
    assert.equal(none.clientOf(forwarded("203.0.113.9", "198.51.100.1")), "203.0.113.9");
    const some = createAddresses(["10.0.0.0/8"]);
    assert.equal(some.clientOf(forwarded("203.0.113.9", "198.51.100.1")), "203.0.113.9");
  });

  it("is what the last trusted proxy saw", () => {
    const { clientOf } = createAddresses(["10.0.0.0/8", "fd00::/8", "192.0.2.7"]);
    assert.equal(clientOf(forwarded("10.1.2.3", "198.51.100.1")), "198.51.100.1");
    assert.equal(clientOf(forwarded("fd00::1", "198.51.100.1, 192.0.2.7, 10.0.0.9")), "198.51.100.1");
    assert.equal(
      clientOf(forwarded("10.1.2.3", "1.1.1.1, 203.0.113.9")),
      "203.0.113.9",
      "what a client claims is not followed",
    );
    assert.equal(clientOf(forwarded("10.1.2.3", "2001:db8::5")), "2001:db8::5");
  });

  it("stops at what is no address", () => {
    const { clientOf } = createAddresses(["10.0.0.0/8"]);
    for (const chain of ["evil.example", "", "1.2.3.4:80", "<script>", "0x7f.1 x"]) {
      assert.equal(clientOf(forwarded("10.1.2.3", chain)), "10.1.2.3");
    }
    assert.equal(clientOf(forwarded("10.1.2.3", "junk, 10.0.0.9")), "10.0.0.9");
  });

  it("sees through IPv4 in IPv6", () => {
    const { clientOf } = createAddresses(["10.0.0.0/8"]);
    assert.equal(clientOf(from("::ffff:203.0.113.9")), "203.0.113.9");
    assert.equal(clientOf(forwarded("::ffff:10.1.2.3", "198.51.100.1")), "198.51.100.1");
  });

  it("is this machine only without any proxy in between", () => {
    const { isLocal } = createAddresses([]);
    for (const peer of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) assert.equal(isLocal(from(peer)), true);
    for (const peer of ["10.0.0.1", "203.0.113.9", undefined]) assert.equal(isLocal(from(peer)), false);
    assert.equal(isLocal(forwarded("127.0.0.1", "127.0.0.1")), false);
  });
});

it("request ids never repeat, not even between processes", () => {
  const [a, b] = [createRequestIds(), createRequestIds()];
  const ids = [a(), a(), b(), b()];
  assert.equal(new Set(ids).size, 4);
  for (const id of ids) assert.match(id, /^req_[A-Za-z0-9_-]{12}[0-9a-z]{6}$/);
});
