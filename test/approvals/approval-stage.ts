/** An agent at work behind the proxy whose calls wait for somebody. */
import assert from "node:assert/strict";
import { TASK_TYPE, type Answer } from "../support/world.ts";
import type { Raw, Stage } from "../proxy/stage.ts";

/** Members of an answer that says that somebody is asked. */
export interface Notice {
  readonly decision: string;
  readonly approval: {
    readonly id: string;
    readonly status: string;
    readonly uri: string;
    readonly expires_at: string;
    readonly by: unknown[];
  };
}

/** One piece of work: the same node with as many fresh tokens as it likes. */
export interface Work {
  readonly txn: string;
  token(): Promise<string>;
  /** `POST /contacts` with a fresh token. */
  post(body: unknown, o?: { query?: string; url?: string; headers?: Record<string, string> }): Promise<Raw>;
  /** The same, which must be answered with an approval to wait for. */
  waits(body: unknown, o?: { query?: string }): Promise<Notice>;
}

export async function work(
  { w, token, send }: Stage,
  o: { agent?: string; resource?: string; subject?: string; form?: Record<string, string> } = {},
): Promise<Work> {
  const { agent = "release-bot", resource = "crm" } = o;
  const mine = o.subject ?? w.workload(agent);
  const fresh = (): Promise<string> =>
    token(`${resource}:write`, { agent, resource: `http/${resource}`, form: { token: mine, ...o.form } });
  const { txn } = JSON.parse(Buffer.from((await fresh()).split(".")[1] ?? "", "base64url").toString()) as {
    txn: string;
  };
  const post: Work["post"] = async (body, { query = "", url, headers = {} } = {}) =>
    await send("POST", `/http/${resource}/contacts${query}`, {
      token: await fresh(),
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...(url === undefined ? {} : { url }),
    });
  return {
    txn,
    token: fresh,
    post,
    async waits(body, at) {
      const answer = await post(body, at);
      assert.equal(answer.status, 403, answer.text);
      const problem = JSON.parse(answer.text) as Notice & { code: string; type: string };
      assert.deepEqual([problem.code, problem.type], ["approval_required", "urn:ephor:problem:approval_required"]);
      assert.match(problem.decision, /^evt_/);
      assert.match(problem.approval.id, /^apr_/);
      assert.equal(problem.approval.status, "pending");
      return problem;
    },
  };
}

/** An operator decides. */
export async function decide({ w }: Stage, id: string, decision = "approve", reason = "looked at it"): Promise<Answer> {
  return await w.operator("POST", `/v1/approvals/${id}`, { decision, reason });
}

/** A reviewing agent decides, by a token for Ephor's own API. */
export async function decideAs(
  { w }: Stage,
  agent: string,
  o: { id: string; decision?: string; handle?: string },
): Promise<Answer> {
  const answer = await w.self(agent, {
    scope: "ephor:approve",
    resource: `${w.server.issuer}/v1`,
    ...(o.handle === undefined ? {} : { subject_token: o.handle, subject_token_type: TASK_TYPE }),
  });
  assert.equal(answer.status, 200, answer.text);
  return await w.request("POST", `/v1/approvals/${o.id}`, {
    body: { decision: o.decision ?? "approve", reason: "looked at it" },
    headers: { authorization: `Bearer ${String(answer.body["access_token"])}` },
  });
}
