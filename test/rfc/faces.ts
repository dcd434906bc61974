/**
 * What the RFC tests share: a granted answer, and the two faces of a refusal. The outer one is on the wire; the inner one
 * is read where an operator reads it, at the counter of refusals, so that these tests see nothing but HTTP.
 */
import assert from "node:assert/strict";
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from "jose";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import type { Answer, World } from "../support/world.ts";

/** RFC 6749 §5.2: `error_description` is printable ASCII without quote and backslash. */
const DESCRIPTION = /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/;
const REFUSALS = /^ephor_refusals_total\{reason="(\w+)"\} (\d+)/gm;

/** An issued token, taken apart without looking at its signature. */
export interface Issued {
  readonly token: string;
  readonly header: Readonly<Record<string, unknown>>;
  readonly claims: JWTPayload & Readonly<Record<string, unknown>>;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Assertions about one world's answers. */
export interface Faces {
  /** 200 with a token, by RFC 6749 §5.1. */
  granted(answer: Answer, label?: string): Issued;
  /** An error by RFC 6749 §5.2, counted once under this reason. Ask for it right after the answer. */
  refused(answer: Answer, error: string, reason: Reason, more?: { status?: number; label?: string }): Promise<void>;
}

/** Counts from here: what was refused before is not looked at. */
export async function faces(w: World): Promise<Faces> {
  let counted = await refusals(w);
  return {
    granted,
    async refused(answer, error, reason, { status = error === "invalid_client" ? 401 : 400, label = "" } = {}) {
      const text = `${label} ${answer.status} ${answer.text}`;
      assert.equal(answer.status, status, text);
      assert.equal(answer.body["error"], error, text);
      assert.deepEqual(Object.keys(answer.body).sort(), ["error", "error_description"], text);
      assert.match(String(answer.body["error_description"]), DESCRIPTION, text);
      assert.equal(answer.headers.get("cache-control"), "no-store", text);
      assert.equal(answer.headers.get("content-type"), "application/json", text);
      const before = counted;
      counted = await refusals(w);
      const added = [...counted].map(([name, count]) => [name, count - (before.get(name) ?? 0)] as const);
      const seen = added.filter(([, count]) => count > 0);
      assert.equal(new Map(seen).get(reason), 1, `counted as ${JSON.stringify(seen)}, not once as ${reason}: ${text}`);
    },
  };
}

function granted(answer: Answer, label = ""): Issued {
  assert.equal(answer.status, 200, `${label} ${answer.text}`);
  const token = answer.body["access_token"];
  assert.ok(typeof token === "string", label);
  return { token, header: { ...decodeProtectedHeader(token) }, claims: decodeJwt(token), body: answer.body };
}

async function refusals(w: World): Promise<Map<string, number>> {
  const { text } = await w.request("GET", "/metrics");
  return new Map([...text.matchAll(REFUSALS)].map(([, name, count]) => [name!, Number(count)]));
}
