import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { Permit } from "../../src/core/permit.ts";
import type { IdentityClaims, IdentitySigner } from "../../src/keys/identity-signer.ts";
import { openKey, type HeldKey } from "../../src/keys/key-material.ts";
import type { KeyUse } from "../../src/keys/key-ring.ts";
import { createKeys } from "../../src/keys/keys.ts";
import { readKeys } from "../../src/keys/store.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { ulid } from "../../src/system/random.ts";
import { createEnvelope, type Envelope } from "../../src/vault/envelope.ts";
import { openKek } from "../../src/vault/kek.ts";
import type { World } from "../support/world.ts";
import type { Mint } from "./bad-tokens.ts";

/**
 * A key of ours, taken out of the database with the key-encryption key, so that a test can sign what Ephor never would. What
 * is refused with its signature is refused by the reader of the token alone.
 */
export async function ownKey(w: World, use: KeyUse): Promise<{ kid: string; privateKey: KeyObject }> {
  const envelope = await ownEnvelope(w);
  if (use === "identity") await identityOf(w);
  const row = (await readKeys(w.db, 0)).find((each) => each.use === use && each.status === "active");
  if (row === undefined) throw new Error("no active key");
  const { kid, privateKey }: HeldKey = await openKey(envelope, row);
  if (privateKey === null) throw new Error("no private key");
  return { kid, privateKey };
}

/** A live token of ours, taken apart, with the key that signed it. */
export async function mintOfOurs(w: World, token: string, elsewhere: string): Promise<Mint> {
  const { privateKey: key } = await ownKey(w, "token");
  return { header: decodeProtectedHeader(token), claims: decodeJwt(token), key, elsewhere, now: w.now() };
}

/** What the broker signs for a cloud: no request answers one, so it is made here by the same signer and the same keys. */
export async function webIdentityToken(w: World, claims: Partial<IdentityClaims> & object = {}): Promise<string> {
  const sub = claims.sub ?? "resource|aws-deploy";
  const registered = {
    iss: w.server.issuer,
    sub,
    aud: "sts.amazonaws.com",
    iat: w.now(),
    exp: w.now() + 60,
    jti: ulid(0),
  };
  const permit = new Permit({
    action: "identity.sign",
    target: sub,
    actor: "test",
    eventId: "evt_1",
    lapsesAtMs: w.clock.monotonicMs() + 1_000,
  });
  return (await identityOf(w)).sign(permit, { ...registered, ...claims });
}

async function identityOf(w: World): Promise<IdentitySigner> {
  const log = createLog({ level: "silent" });
  const clock = createDatabaseClock(w.clock);
  const { identity } = await createKeys({ db: w.db, vault: await ownEnvelope(w), clock, log });
  await identity.ready();
  return identity;
}

async function ownEnvelope(w: World): Promise<Envelope> {
  const kek = await openKek(`file:${join(w.data, "kek")}`, {
    readEnvironment: () => undefined,
    mayCreate: async () => false,
  });
  return createEnvelope({ kek });
}
