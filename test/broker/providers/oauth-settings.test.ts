import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { secretOfUser } from "../../../src/broker/providers/oauth-settings.ts";
import { provider } from "./oauth-stage.ts";

const BASE = { token_url: "https://idp.example/token", client_id: "crm", secret: "s", grant: "client_credentials" };
const IDENTITY = { web_identity: { audience: "https://idp.example" } };

function problems(rest: object): string[] {
  const parsed = provider.settings.safeParse({ ...BASE, ...rest });
  return parsed.success ? [] : parsed.error.issues.map(({ path }) => path.join("."));
}

test("settings that say how each grant and each client authentication works are accepted", () => {
  for (const rest of [
    {},
    { auth_method: "client_secret_post" },
    { auth_method: "private_key_jwt", key_id: "k", assertion_algorithm: "PS256", assertion_audience: "https://x" },
    { auth_method: "web_identity", secret: undefined, ...IDENTITY },
    { grant: "refresh_token", refresh_secret: "crm-refresh-{user}" },
    { grant: "refresh_token", refresh_secret: "{user}-crm" },
    { grant: "refresh_token", refresh_secret: "crm-refresh", auth_method: "none", secret: undefined },
    { grant: "token_exchange", ...IDENTITY },
    { grant: "token_exchange", auth_method: "none", secret: undefined, client_id: undefined, ...IDENTITY },
    { grant: "jwt_bearer", auth_method: "web_identity", secret: undefined, ...IDENTITY },
    { token_url: "https://idp.example/token?tenant=1", revocation_url: "https://idp.example/revoke" },
    { token_url: "http://127.0.0.1:1/token", internal: true },
    { scope: "read:all https://graph.microsoft.com/.default" },
    { resource: "api://crm", audience: ["a", "b"] },
    { scope: "a b", session_policies: { less: { scope: "b" } } },
    { max_expires_in: "1h" },
  ])
    assert.deepEqual(problems(rest), [], JSON.stringify(rest));
});

test("settings that lack something, or have something that does nothing, are refused where it is", () => {
  const cases: [object, string][] = [
    [{ secret: undefined }, "secret"],
    [{ client_id: undefined }, "client_id"],
    [{ auth_method: "none" }, "secret"],
    [{ auth_method: "none", secret: undefined }, "auth_method"],
    [{ auth_method: "web_identity", ...IDENTITY }, "secret"],
    [{ auth_method: "web_identity", secret: undefined }, "web_identity"],
    [{ auth_method: "tls_client_auth" }, "auth_method"],
    [{ key_id: "k" }, "key_id"],
    [{ assertion_algorithm: "RS256" }, "assertion_algorithm"],
    [{ auth_method: "private_key_jwt", assertion_algorithm: "HS256" }, "assertion_algorithm"],
    [{ assertion_audience: "x" }, "assertion_audience"],
    [{ grant: "authorization_code" }, "grant"],
    [{ grant: undefined }, "grant"],
    [{ grant: "refresh_token" }, "refresh_secret"],
    [{ refresh_secret: "crm-refresh-{user}" }, "refresh_secret"],
    [{ grant: "refresh_token", refresh_secret: "crm {user}" }, "refresh_secret"],
    [{ grant: "refresh_token", refresh_secret: "{user}-{user}" }, "refresh_secret"],
    [{ grant: "refresh_token", refresh_secret: `${"a".repeat(32)}{user}` }, "refresh_secret"],
    [{ grant: "token_exchange" }, "web_identity"],
    [IDENTITY, "web_identity"],
    [{ token_url: "http://127.0.0.1:1/token" }, "token_url"],
    [{ token_url: "http://idp.example/token", internal: true }, "token_url"],
    [{ token_url: "https://idp.example/token#x" }, "token_url"],
    [{ token_url: "https://a:b@idp.example/token" }, "token_url"],
    [{ revocation_url: "http://idp.example/revoke" }, "revocation_url"],
    [{ scope: "" }, "scope"],
    [{ scope: "a  b" }, "scope"],
    [{ scope: 'a"b' }, "scope"],
    [{ resource: "crm" }, "resource"],
    [{ resource: "https://crm.example/#x" }, "resource"],
    [{ scope: "a", session_policies: { more: { scope: "a b" } } }, "session_policies.more"],
    [{ session_policies: { more: { scope: "a" } } }, "session_policies.more"],
    [{ max_expires_in: 3600 }, "max_expires_in"],
    [{ user_secret: "x" }, ""],
  ];
  for (const [rest, where] of cases)
    assert.ok(problems(rest).includes(where), `${JSON.stringify(rest)} ${problems(rest)}`);
});

test("settings may be parsed again, as they are when a lease is ended", () => {
  const once = provider.settings.parse({ ...BASE, max_expires_in: "1h" });
  assert.deepEqual(provider.settings.parse(once), once);
});

test("the secret of a user has a name that a shell can compute, and that shows nobody", () => {
  // printf %s 'okta|00u1' | sha256sum | cut -c1-32
  assert.equal(secretOfUser("crm-refresh-{user}", "okta|00u1"), "crm-refresh-adeadee91f864546c82ce84d688a1584");
  assert.equal(secretOfUser("crm-refresh", "okta|00u1"), "crm-refresh");
});

test("the settings of the example are such settings", () => {
  const text = readFileSync(new URL("../../../examples/oauth-upstream/trust.yaml", import.meta.url), "utf8");
  const { resources } = parse(text) as { resources: Record<string, { credential?: { oauth: object } }> };
  const vended = Object.values(resources).flatMap(({ credential }) => credential ?? []);
  assert.equal(vended.length, 4);
  for (const { oauth } of vended) provider.settings.parse(oauth);
});
