/** A world whose identity providers speak Shared Signals, and security events as they would send them. */
import { randomUUID } from "node:crypto";
import { chainWorld, type ChainWorld } from "../attacks/chain-world.ts";
import type { Cleanup } from "./database.ts";
import { startIssuer, type TestIssuer } from "./oidc-issuer.ts";
import { usualTrust, type Answer } from "./world.ts";

export const STREAM = "https://sts.acme.example/ssf";
export const CAEP = "https://schemas.openid.net/secevent/caep/event-type/";
export const RISC = "https://schemas.openid.net/secevent/risc/event-type/";
export const SSF = "https://schemas.openid.net/secevent/ssf/event-type/";

/** Secret of the stream of `partner`, which needs one. */
export const PARTNER_SECRET = "partner-secret-0123456789abcdefghijklmnopq";
const PARTNER_HASH = "sha256:PARTNER_HASH";

/** A security event, and how it differs from a plain good one. */
export interface EventOptions {
  /** Replaces claims; `undefined` removes one. */
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
  /** Members of the event itself. */
  readonly members?: Record<string, unknown>;
  readonly sub?: string;
  readonly signer?: TestIssuer;
  readonly kid?: string;
}

/** The world and its events. */
export interface SignalWorld extends ChainWorld {
  /** Another identity provider, `partner`, with a secret. */
  readonly partner: TestIssuer;
  /** An event of okta's about okta's `00u1ab`. */
  event(type: string, o?: EventOptions): string;
  /** Its claims, for what is signed otherwise. */
  claims(type: string, o?: EventOptions): Record<string, unknown>;
  push(token: string, o?: { name?: string; headers?: Record<string, string>; url?: string }): Promise<Answer>;
}

/** @param options.signals further members of okta's `shared_signals` */
export async function signalWorld(
  t: Cleanup,
  options: { signals?: string; okta?: string } & NonNullable<Parameters<typeof chainWorld>[1]> = {},
): Promise<SignalWorld> {
  const { signals = "", okta = "", ...rest } = options;
  const partner = await startIssuer(t);
  const hash = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(PARTNER_SECRET))).toString("hex");
  const w = await chainWorld(t, {
    ...rest,
    trust: (issuers) =>
      usualTrust(issuers)
        .replace(
          "identifies: humans, internal: true }",
          `identifies: humans, internal: true${okta}, shared_signals: { audience: "${STREAM}", jwks_uri: "${issuers.humans.jwksUri}"${signals} } }
  partner:
    url: "${partner.url}"
    audience: "api://ephor"
    identifies: humans
    internal: true
    shared_signals: { audience: ["${STREAM}", "urn:other"], jwks_uri: "${partner.jwksUri}", secret_hash: "${PARTNER_HASH}" }`,
        )
        .replace("PARTNER_HASH", hash),
  });
  let count = 0;
  const claims: SignalWorld["claims"] = (type, o = {}) => {
    const { signer = w.humans, sub = "00u1ab" } = o;
    return {
      iss: signer.url,
      aud: STREAM,
      jti: randomUUID(),
      iat: w.now(),
      sub_id: { format: "iss_sub", iss: signer.url, sub },
      events: { [type]: { event_timestamp: w.now(), initiating_entity: "admin", ...o.members } },
      ...o.claims,
    };
  };
  return {
    ...w,
    partner,
    claims,
    event(type, o = {}) {
      const { signer = w.humans } = o;
      const header = { alg: "RS256", kid: o.kid ?? signer.key().kid, typ: "secevent+jwt", ...o.header };
      const key = o.kid === undefined ? {} : { kid: o.kid };
      return signer.mintRaw(JSON.stringify(header), JSON.stringify(claims(type, o)), key);
    },
    push(token, { name = "okta", headers = {}, url = "" } = {}) {
      count += 1;
      return w.request("POST", `${url}/ssf/events/${name}`, {
        body: token,
        headers: {
          "content-type": "application/secevent+jwt",
          accept: "application/json",
          "x-forwarded-for": `10.200.${count}.9`,
          ...headers,
        },
      });
    },
  };
}
