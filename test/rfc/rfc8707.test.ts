import assert from "node:assert/strict";
import { after, test } from "node:test";
import { world, type Answer, type Form } from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });
const { granted, refused } = await faces(w);

const self = (form: Form): Promise<Answer> => w.self("release-bot", { scope: "billing:read_invoice", ...form });

await w.apply(
  `
resources:
  wiki: { resource: "https://Wiki.acme.example:443/Docs/A?space=x", actions: [read] }
grants:
  - { agent: release-bot, resource: wiki, actions: [read] }
`,
  "wiki.yaml",
);

test("the token's aud is the one resource that was named, as a string (RFC 8707 §2)", async () => {
  assert.equal(granted(await self({ resource: BILLING })).claims.aud, BILLING);
});

test("POST /token 400 invalid_target without a resource or audience: there is no default (RFC 8707 §2)", async () => {
  await refused(await self({}), "invalid_target", "target_missing");
  await refused(await self({ resource: "", audience: "" }), "invalid_target", "target_missing");
});

test("POST /token 400 invalid_target for two different targets, one of which would be granted (RFC 8707 §2.2, RFC 8693 §2.1)", async () => {
  const two: Form[] = [
    { resource: [BILLING, "https://ledger.acme.example"] },
    { resource: BILLING, audience: "ledger" },
    { audience: ["billing", "ledger"] },
  ];
  for (const form of two)
    await refused(await self(form), "invalid_target", "target_several", { label: JSON.stringify(form) });
});

test("naming one target several times is naming it once (RFC 8707 §2)", async () => {
  granted(await self({ resource: [BILLING, `${BILLING}/`] }));
  granted(await self({ resource: BILLING, audience: BILLING }));
});

test("POST /token 400 invalid_target for a resource that is relative, has a fragment, user information or blanks, or is too long (RFC 8707 §2)", async () => {
  const bad = [
    "billing.acme.example",
    "/billing",
    "//billing.acme.example",
    `${BILLING}#x`,
    `${BILLING}/#`,
    "https://user@billing.acme.example",
    "https://billing.acme.example/a b",
    "https://billing.acme.example/%zz",
    `${BILLING}/${"a".repeat(2048)}`,
  ];
  for (const resource of bad) {
    await refused(await self({ resource }), "invalid_target", "target_malformed", { label: resource.slice(0, 60) });
  }
});

test("POST /token 400 invalid_target for a resource that is not served (RFC 8707 §2)", async () => {
  const unknown = ["https://unknown.example", `${BILLING}/v2`, "http://billing.acme.example", `${BILLING}:8443`];
  for (const resource of unknown)
    await refused(await self({ resource }), "invalid_target", "target_unknown", { label: resource });
});

test("scheme, host and default port are compared without case, and aud is as configured (RFC 8707 §2, RFC 3986 §6.2)", async () => {
  for (const resource of ["HTTPS://BILLING.acme.example", `${BILLING}/`, `${BILLING}:443`, `${BILLING}:443/`]) {
    assert.equal(granted(await self({ resource }), resource).claims.aud, BILLING);
  }
});

test("path and query are compared as they are (RFC 8707 §2, RFC 3986 §6.2.2)", async () => {
  const configured = "https://Wiki.acme.example:443/Docs/A?space=x";
  const wiki = (resource: string) => self({ resource, scope: "wiki:read" });
  assert.equal(granted(await wiki("https://wiki.acme.example/Docs/A?space=x")).claims.aud, configured);
  const others = [
    "/docs/A?space=x",
    "/Docs/%41?space=x",
    "/Docs/A",
    "/Docs/A/?space=x",
    "/Docs/./A?space=x",
    "/Docs/A?space=X",
  ];
  for (const rest of others) {
    await refused(await wiki(`https://wiki.acme.example${rest}`), "invalid_target", "target_unknown", { label: rest });
  }
});

test("a scope belongs to its resource: one of another resource is invalid_scope (RFC 8707 §2, RFC 9068 §3)", async () => {
  await refused(await self({ resource: BILLING, scope: "wiki:read" }), "invalid_scope", "scope_unknown");
  await refused(
    await self({ resource: BILLING, scope: "billing:read_invoice wiki:read" }),
    "invalid_scope",
    "scope_unknown",
  );
  granted(await self({ audience: "wiki", scope: "wiki:read" }));
});

test("POST /token 400 invalid_target for the identifier of a cloud's own token service (RFC 8707 §3)", async () => {
  const clouds = [
    "https://sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
  ];
  for (const audience of clouds)
    await refused(await self({ audience }), "invalid_target", "target_reserved", { label: audience });
});
