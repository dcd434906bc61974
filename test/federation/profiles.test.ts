import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import type { Agent, Issuer } from "../../src/core/trust/model.ts";
import type { VerifiedToken } from "../../src/federation/verify.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import {
  agentEntry,
  issuerEntry,
  openFederation,
  OUR_ISSUER,
  refusedFor,
  type OpenFederation,
} from "./open-federation.ts";

type Claims = Record<string, unknown>;

const signer = await startIssuer(undefined, { algorithms: ["RS256", "ES256", "Ed25519"] });
after(() => signer.stop());

/** The platforms' own issuers with keys of ours: what they sign is minted here. */
function platform(url: string, changes: Partial<Issuer> = {}): Issuer {
  const keys = (["RS256", "ES256", "Ed25519"] as const).map((algorithm) => {
    const { kid, publicJwk } = signer.key({ algorithm });
    return { ...publicJwk, kid, kty: String(publicJwk["kty"]) };
  });
  return issuerEntry(url, { internal: false, jwks: { keys }, ...changes });
}

interface Platform extends OpenFederation {
  verify(changes?: Claims, header?: Claims): Promise<VerifiedToken>;
  /** The agent's name, after verification. */
  match(changes?: Claims): Promise<string>;
}

function open(t: TestContext, issuer: Issuer, o: { claims: Claims; agents?: readonly Agent[] }): Platform {
  const world = openFederation(t, { issuers: [issuer], agents: o.agents ?? [] });
  const verify: Platform["verify"] = (changes = {}, header = {}) => {
    const claims = { iss: issuer.url, aud: OUR_ISSUER, ...o.claims, ...changes };
    return world.federation.verify(signer.mint(claims, { now: world.now(), header }), { use: "subject" });
  };
  return { ...world, verify, match: async (changes) => world.federation.matchAgent(await verify(changes)).name };
}

const GITHUB = "https://token.actions.githubusercontent.com";
const githubClaims = {
  sub: "repo:acme/widgets:ref:refs/heads/main",
  repository: "acme/widgets",
  repository_id: "987654321",
  repository_owner_id: "1234567",
  event_name: "push",
  ref: "refs/heads/main",
  run_id: "17",
  run_attempt: "1",
};
const githubRule = { repository_id: "987654321", repository_owner_id: "1234567" };

test("a GitHub job is known by its ids, and told by repository, ref and run", async (t) => {
  const agents = [agentEntry("release-bot", [{ issuer: "ci", claims: githubRule }])];
  const github = open(t, platform(GITHUB), { claims: githubClaims, agents });
  const verified = await github.verify();
  assert.equal(verified.profile, "github-actions");
  assert.deepEqual(verified.display, {
    repository: "acme/widgets",
    ref: "refs/heads/main",
    event_name: "push",
    run_id: "17",
    run_attempt: "1",
  });
  assert.equal(await github.match(), "release-bot");
  // A-OIDC-17: the name registered again is another id.
  await refusedFor(github.match({ repository_id: "987654322" }), "no_rule_matches");
  // A-OIDC-12: nothing is coerced.
  await refusedFor(github.match({ repository_id: 987654321 }), "token_claim_type");
  await refusedFor(github.match({ repository_id: undefined }), "token_claim_missing");
  await refusedFor(github.verify({}, { typ: "at+jwt" }), "token_typ");
});

test("A-OIDC-16 events that run on what outsiders wrote fit only a rule that names the event exactly", async (t) => {
  const rule = (event_name?: Agent["trust"][number]["claims"][string]): Agent["trust"] => [
    { issuer: "ci", claims: { ...githubRule, ...(event_name === undefined ? {} : { event_name }) } },
  ];
  for (const event of ["pull_request", "pull_request_target", "pull_request_review", "issue_comment", "workflow_run"]) {
    const claims = { ...githubClaims, event_name: event };
    for (const matcher of [undefined, "push", { like: "*" }, ["push", "schedule"]]) {
      await refusedFor(
        open(t, platform(GITHUB), { claims, agents: [agentEntry("bot", rule(matcher))] }).match(),
        "no_rule_matches",
        event,
      );
    }
    for (const matcher of [event, ["push", event]]) {
      assert.equal(
        await open(t, platform(GITHUB), { claims, agents: [agentEntry("bot", rule(matcher))] }).match(),
        "bot",
      );
    }
  }
});

test("a server of one's own that sends GitHub's claims gets GitHub's checks", async (t) => {
  const issuer = platform("https://forge.acme.example/oidc");
  const agents = [agentEntry("bot", [{ issuer: "ci", claims: githubRule }])];
  const forge = open(t, issuer, { claims: githubClaims, agents });
  assert.equal(await forge.match(), "bot");
  await refusedFor(forge.match({ event_name: "pull_request_target" }), "no_rule_matches");
});

const gitlabClaims = {
  sub: "project_path:acme/widgets:ref_type:branch:ref:main",
  project_id: "20",
  project_path: "acme/widgets",
  namespace_id: "72",
  pipeline_id: "574",
  job_id: "302",
  ref: "main",
  job_project_id: "20",
  job_namespace_id: "72",
};

test("a GitLab job of a fork that the parent project runs fits only a rule that says where it runs", async (t) => {
  const rules: Agent["trust"] = [{ issuer: "ci", claims: { project_id: "20" } }];
  const gitlab = open(t, platform("https://gitlab.com"), { claims: gitlabClaims, agents: [agentEntry("bot", rules)] });
  assert.equal((await gitlab.verify()).profile, "gitlab");
  assert.equal(await gitlab.match(), "bot");
  assert.equal(
    await gitlab.match({ job_project_id: undefined, job_namespace_id: undefined }),
    "bot",
    "before GitLab 18.4",
  );
  await refusedFor(gitlab.match({ job_project_id: "21" }), "no_rule_matches");
  await refusedFor(gitlab.match({ job_namespace_id: "73" }), "no_rule_matches");
  // A-OIDC-19: somebody else's project with our audience.
  await refusedFor(gitlab.match({ project_id: "21", job_project_id: "21" }), "no_rule_matches");
  gitlab.put({
    agents: [agentEntry("bot", [...rules, { issuer: "ci", claims: { project_id: "20", job_project_id: "21" } }])],
  });
  assert.equal(await gitlab.match({ job_project_id: "21" }), "bot");
  await refusedFor(gitlab.match({ job_project_id: "22" }), "no_rule_matches");
});

const CLUSTER = "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC";
const cluster = {
  aud: [OUR_ISSUER],
  sub: "system:serviceaccount:support:triage",
  "kubernetes.io": {
    namespace: "support",
    pod: { name: "triage-7d9", uid: "p" },
    node: { name: "ip-10-0-1-9", uid: "n" },
    serviceaccount: { name: "triage", uid: "0f3a" },
  },
};

test("a Kubernetes service account's token is told by its pod, at a known cloud and elsewhere", async (t) => {
  for (const url of [CLUSTER, "https://kubernetes.default.svc.cluster.local"]) {
    const verified = await open(t, platform(url), { claims: cluster }).verify();
    assert.equal(verified.profile, "kubernetes");
    assert.deepEqual(verified.display, { pod: "triage-7d9", node: "ip-10-0-1-9" });
  }
});

test("A-OIDC-20 API-server tokens, legacy tokens, and service accounts of another namespace or uid are refused", async (t) => {
  const agents = [
    agentEntry("bot", [{ issuer: "ci", claims: { sub: cluster.sub, "kubernetes.io.serviceaccount.uid": "0f3a" } }]),
  ];
  const k8s = open(t, platform(CLUSTER), { claims: cluster, agents });
  assert.equal(await k8s.match(), "bot");
  const details = cluster["kubernetes.io"];
  await refusedFor(k8s.match({ aud: ["https://kubernetes.default.svc"] }), "token_audience");
  await refusedFor(k8s.match({ "kubernetes.io": { ...details, warnafter: k8s.now() + 3607 } }), "token_audience");
  await refusedFor(k8s.match({ exp: undefined }), "token_claim_missing");
  await refusedFor(k8s.match({ "kubernetes.io": undefined }), "token_claim_missing");
  await refusedFor(
    k8s.match({ "kubernetes.io": { ...details, serviceaccount: { name: "triage", uid: "ffff" } } }),
    "no_rule_matches",
  );
  const elsewhere = { ...details, namespace: "default" };
  await refusedFor(
    k8s.match({ sub: "system:serviceaccount:default:triage", "kubernetes.io": elsewhere }),
    "no_rule_matches",
  );
  await refusedFor(k8s.match({ "kubernetes.io": elsewhere }), "token_claim_type");
  await refusedFor(k8s.match({ sub: "triage" }), "token_claim_type");
});

const MESH = "spiffe://prod.acme.example";

function openMesh(t: TestContext, agents: readonly Agent[] = []): Platform {
  const keys = (["RS256", "ES256", "Ed25519"] as const).map((algorithm) => {
    const { kid, publicJwk } = signer.key({ algorithm });
    return { ...publicJwk, kid, kty: String(publicJwk["kty"]), use: "jwt-svid" };
  });
  const issuer: Issuer = {
    name: "ci",
    spiffe: MESH,
    audience: [OUR_ISSUER],
    identifies: "workloads",
    internal: false,
    singleUse: false,
    jwks: { keys },
  };
  const claims = { iss: undefined, sub: `${MESH}/ns/a/sa/b`, iat: undefined, nbf: undefined, jti: undefined };
  return open(t, issuer, { claims, agents });
}

test("a JWT-SVID is verified by its trust domain's keys; iss and iat need not be there and iss is not believed", async (t) => {
  const mesh = openMesh(t, [agentEntry("bot", [{ issuer: "ci", claims: { sub: `${MESH}/ns/a/sa/b` } }])]);
  for (const typ of [undefined, "JWT", "JOSE"]) {
    const verified = await mesh.verify({}, { typ });
    assert.equal(verified.workloadId, `${MESH}/ns/a/sa/b`);
    assert.equal(verified.profile, "spiffe");
  }
  await mesh.verify({ iss: "https://elsewhere.example" });
  assert.equal(await mesh.match(), "bot");
  await refusedFor(mesh.match({ sub: `${MESH}/ns/a/sa/bb` }), "no_rule_matches");
});

test("a JWT-SVID with EdDSA, another header member or another typ is refused (JWT-SVID §2)", async (t) => {
  const mesh = openMesh(t);
  const { kid } = signer.key({ algorithm: "Ed25519" });
  const ed = signer.mint({ sub: `${MESH}/a`, iss: undefined, aud: OUR_ISSUER }, { now: mesh.now(), kid });
  await refusedFor(mesh.federation.verify(ed, { use: "actor" }), "token_alg");
  for (const header of [{ x5t: "abc" }, { nonce: "n" }, { foo: 1 }, { jku: "https://x.example" }]) {
    await refusedFor(mesh.verify({}, header), "token_header_member", JSON.stringify(header));
  }
  await refusedFor(mesh.verify({}, { typ: "at+jwt" }), "token_typ");
  await refusedFor(mesh.verify({ exp: undefined }), "token_claim_missing");
  await refusedFor(mesh.verify({ aud: [OUR_ISSUER, "https://other.example"] }), "token_audience");
  await refusedFor(mesh.verify({ exp: mesh.now() + 86_401 }), "token_lifetime");
});

test("A-OIDC-21 a SPIFFE ID of another trust domain, or that is not exactly one, is refused", async (t) => {
  const mesh = openMesh(t);
  for (const sub of [
    "spiffe://prod.acme.example.evil.com/a",
    "spiffe://PROD.acme.example/a",
    "spiffe://acme.example/a",
    `${MESH}/ns/a/../b`,
    `${MESH}/a/`,
    `${MESH}/a%2Fb`,
    `${MESH}/a?b`,
    `${MESH}/a#b`,
    `${MESH}:443/a`,
    "spiffe://u@prod.acme.example/a",
    `${MESH}//a`,
    "prod.acme.example",
  ]) {
    await assert.rejects(mesh.verify({ sub }), { name: "RefusedToken" }, sub);
    await refusedFor(mesh.verify({ sub, iss: "https://elsewhere.example" }), "token_issuer_unknown", sub);
  }
  // The trust domain itself is no workload.
  await refusedFor(mesh.verify({ sub: MESH }), "token_claim_type");
});

test("an ordinary issuer's token with a SPIFFE ID follows that issuer's rules, not the trust domain's", async (t) => {
  const mesh = openMesh(t);
  mesh.put({ issuers: [platform("https://oidc.acme.example", { name: "provider", audience: ["other"] })] });
  await refusedFor(mesh.verify({ iss: "https://oidc.acme.example", iat: mesh.now() }), "token_audience");
});
